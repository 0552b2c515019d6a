"""ONNX Runtime's own profile: the kernels of each inference, read from the file that it writes."""

from __future__ import annotations

import itertools
import json
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cspbench.artifacts.tensors import arrays_of
from cspbench.backends.common.profiling import combine
from cspbench.backends.spec import LayerProfile, LayerTime

if TYPE_CHECKING:
    import tempfile

    from cspbench.artifacts.tensors import Feed


def input_names(session: Any) -> list[str]:
    """Names of a session's inputs, in the model's order."""
    return [one.name for one in session.get_inputs()]


class ProfiledRun(NamedTuple):
    """Kernels of one inference in the order of execution, and the time from one to the next."""

    entries: list[LayerTime]
    between_ns: int


def kernel_times(events: Sequence[dict[str, Any]]) -> list[ProfiledRun]:
    """What an ONNX Runtime profile holds of each inference.

    A kernel bears the name of the last node that was fused into it, with marks of layout and of
    what fused it. A Loop's holds those of its body, each time it runs.
    """
    spans = [event for event in events if event.get("name") == "model_run"]
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    kernels = outermost(kernels)
    begins = [_begin(event) for event in kernels]
    runs = []
    for span in sorted(spans, key=_begin):
        first = bisect_left(begins, _begin(span))
        last = bisect_right(begins, _begin(span) + int(span["dur"]))
        own = kernels[first:last]
        gaps = (_begin(after) - _end(before) for before, after in itertools.pairwise(own))
        between_us = sum(max(0, gap) for gap in gaps)
        runs.append(ProfiledRun([_kernel(event) for event in own], 1000 * between_us))
    return runs


def outermost(kernels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The kernels in their order, without those that run inside of another: its body.

    The profile has a kernel of a body before the kernel that it belongs to.
    """
    found: list[dict[str, Any]] = []
    end = -1
    # Of those that begin in one microsecond: first what took none of it, then the outer ones.
    outer_first = list(reversed(kernels))
    outer_first.sort(key=lambda event: (_begin(event), event["dur"] > 0, -_end(event)))
    for event in outer_first:
        if _end(event) > end or _begin(event) >= end:
            found.append(event)
            end = _end(event)
    return found


def _end(event: dict[str, Any]) -> int:
    return _begin(event) + int(event["dur"])


def _begin(event: dict[str, Any]) -> int:
    return int(event["ts"])


def _kernel(event: dict[str, Any]) -> LayerTime:
    name = event["name"].removesuffix("_kernel_time")
    node = re.sub(r"/\w+Fusion/$|(_output_\d+)?(_nchwc)?(_token_\d+)?$", "", name)
    op = str(event["args"].get("op_name", ""))
    return LayerTime(name, op, int(event["dur"]) * 1000, (node,))


class ProfiledSession:
    """A session with its profiler on, which writes a file when it is told to end."""

    def __init__(self, session: Any, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._session = session
        self._folder = folder  # it holds the file, and goes with this object
        self._names = input_names(session)
        self._totals: list[int] = []
        self._left_out: set[int] = set()

    def run(self, feed: Feed) -> int:
        """One inference."""
        named = dict(zip(self._names, arrays_of(feed), strict=True))
        start = time.perf_counter_ns()
        self._session.run(None, named)
        self._totals.append(time.perf_counter_ns() - start)
        return self._totals[-1]

    def rehearse(self, feed: Feed) -> None:
        """One inference that does not count."""
        self._left_out.add(len(self._totals))
        self.run(feed)

    def begin(self) -> None:
        """Forget the inferences so far."""
        self._left_out.update(range(len(self._totals)))

    def profile(self) -> LayerProfile:
        """Means over the faster inferences since `begin`."""
        events = json.loads(Path(self._session.end_profiling()).read_text())
        every = enumerate(zip(self._totals, kernel_times(events), strict=True))
        counted = [pair for number, pair in every if number not in self._left_out]
        return combine(
            [(total, run.entries) for total, run in counted],
            "ONNX Runtime's profile",
            between_ns=[run.between_ns for _, run in counted],
        )
