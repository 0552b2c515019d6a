"""What kernels of a CUDA device a torch program runs, by torch.profiler, which asks CUPTI.

Single layers are not timed by the host's clock on a device: launching a kernel and waiting for it
takes longer than most kernels do. Each operator of the graph is marked as a range, and the kernels
that were submitted within it are its own. The stream is held back meanwhile, so that the host,
which the profiler slows down, leaves no gaps.

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile, record_function

from cspbench.artifacts.tensors import arrays_of
from cspbench.backends.common.device_clock import CYCLES_PER_NS, MOST_CYCLES
from cspbench.backends.common.kernels import (
    DeviceRecord,
    Range,
    layer_times,
    tied,
    without_stall,
)
from cspbench.backends.common.profiling import Profiled, RecordingSession
from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed

#: How the ranges of the graph's nodes are called in a profile.
MARK = "cspbench::"
#: The stream is held back so long before it is known how long submitting takes.
FIRST_CYCLES = 40_000_000

Events = Sequence[Any]
#: Runs work to its end on the device and returns the profiler's events.
Trace = Callable[[Callable[[], object]], Events]


def trace(work: Callable[[], object]) -> Events:
    """Profile some work on the processor and on the device."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    events: Events = profiler.events() or []
    return events


def device_records(events: Iterable[Any]) -> list[DeviceRecord]:
    """Kernels and copies among events; marked ranges have a shadow on the device, which is none."""
    return [
        DeviceRecord(
            event.name, round(1000 * event.time_range.start), round(1000 * event.time_range.end)
        )
        for event in events
        if event.device_type == DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(MARK)
    ]


def ranges(events: Iterable[Any], ops: Mapping[str, str]) -> list[Range]:
    """The kernels of each marked node, in the order of execution.

    Args:
        events: of one inference, as a tree of calls.
        ops: operator of each node by its name.
    """
    marked = [
        event
        for event in events
        if event.device_type == DeviceType.CPU and event.name.startswith(MARK)
    ]
    marked.sort(key=lambda event: event.time_range.start)
    found = []
    for event in marked:
        node = event.name[len(MARK) :]
        kernels = [(kernel.name, round(1000 * kernel.duration)) for kernel in _kernels(event)]
        found.append(Range(node, ops.get(node, ""), kernels))
    return found


def _kernels(event: Any) -> Iterator[Any]:
    """Kernels of a call and of all calls that it made."""
    yield from event.kernels
    for child in event.cpu_children:
        yield from _kernels(child)


class MarkedGraph(torch.fx.Interpreter):
    """Runs a graph with each operator in a range of the profiler."""

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one node."""
        if n.op != "call_function":
            return super().run_node(n)
        with record_function(MARK + n.name):
            return super().run_node(n)


class Stalls(Protocol):
    """What holds the stream back."""

    def stall(self, cycles: int) -> None:
        """Submit a kernel that spins so long."""


class TracedProgram(RecordingSession):
    """A graph whose operators are timed by the kernels that they submit."""

    method = "CUPTI, kernels by operator"

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        to_input: Callable[[np.ndarray], torch.Tensor],
        stream: Stalls,
        tracer: Trace = trace,
    ) -> None:
        super().__init__()
        self._marked, self._to_input = MarkedGraph(graph), to_input
        self._stream, self._trace = stream, tracer
        self._cycles = FIRST_CYCLES
        self._ops = {n.name: str(n.target) for n in graph.graph.nodes if n.op == "call_function"}

    def once(self, feed: Feed) -> Profiled:
        """One inference: the span of its kernels, and those of each operator."""
        records, found = self.traced(feed)
        return _span_ns(records), layer_times(found)

    def traced(self, feed: Feed) -> tuple[list[DeviceRecord], list[Range]]:
        """The device's records of one inference, and its operators' kernels."""
        inputs = [self._to_input(array) for array in arrays_of(feed)]

        def work() -> None:
            self._stream.stall(self._cycles)
            start = time.perf_counter_ns()
            with torch.inference_mode():
                self._marked.run(*inputs)
            took = time.perf_counter_ns() - start
            self._cycles = min(CYCLES_PER_NS * took, MOST_CYCLES)

        events = self._trace(work)
        return without_stall(device_records(events)), ranges(events, self._ops)


class TracedSession(RecordingSession):
    """A compiled or captured program, whose kernels are known without the operators they are of.

    ``eager`` is the same graph run operator by operator, where that submits the same kernels.
    """

    method = "CUPTI, kernels"

    def __init__(
        self, session: Any, eager: TracedProgram | None = None, tracer: Trace = trace
    ) -> None:
        super().__init__()
        self._session, self._eager, self._trace = session, eager, tracer
        self._ranges: list[Range] | None = None

    def once(self, feed: Feed) -> Profiled:
        """One inference: the span of its kernels, and each of them or of its operators."""
        if self._ranges is None:
            self._ranges = []
            if self._eager is not None:
                self._eager.traced(feed)  # cuDNN chooses its algorithms
                self._ranges = self._eager.traced(feed)[1]
            self._session.set_input(feed)
            self._session.run()
        self._session.set_input(feed)
        records = without_stall(device_records(self._trace(self._session.run)))
        return _span_ns(records), tied(records, self._ranges)


def _span_ns(records: Sequence[DeviceRecord]) -> int:
    """From the first kernel to the end of the last; at least 1.

    Raises:
        Unsupported: there are none.
    """
    if not records:
        raise Unsupported("CUPTI saw no kernel: the driver or the sandbox forbids tracing")
    return max(1, max(record.end_ns for record in records) - records[0].begin_ns)
