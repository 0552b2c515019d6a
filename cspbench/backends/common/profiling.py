"""Shared by the backends' profilers: their inferences are kept and averaged, entry by entry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cspbench.backends.spec import LayerProfile, LayerTime

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed

#: Share of the inferences, the fastest, that a profile is the mean of: a disturbed one would
#: stretch single layers.
KEPT_SHARE = 0.75

#: An inference: its time in ns, and its entries.
Profiled = tuple[int, Sequence[LayerTime]]


class RecordingSession(ABC):
    """A `LayerSession` whose profiler tells the entries of each inference at once."""

    method: str

    def __init__(self) -> None:
        self._runs: list[Profiled] = []

    @abstractmethod
    def once(self, feed: Feed) -> Profiled:
        """One inference: its time in ns and its entries."""

    def run(self, feed: Feed) -> int:
        """One inference; its time in ns."""
        self._runs.append(self.once(feed))
        return self._runs[-1][0]

    def rehearse(self, feed: Feed) -> None:
        """One inference that does not count."""
        self.once(feed)

    def begin(self) -> None:
        """Forget the inferences so far."""
        self._runs.clear()

    def profile(self) -> LayerProfile:
        """Means over the faster inferences since `begin`."""
        return combine(self._runs, self.method)


def combine(
    runs: Sequence[Profiled], method: str, *, between_ns: Sequence[int] = ()
) -> LayerProfile:
    """Means over the faster inferences, so that the entries add up to no more than the whole.

    Entries are matched by their names, and equal names by their order: an engine may leave out an
    entry of an inference, which then counts as 0. ``between_ns`` of each inference is the time from
    entry to entry, where the profiler tells it.
    """
    order = sorted(range(len(runs)), key=lambda number: runs[number][0])
    fast = order[: math.ceil(KEPT_SHARE * len(runs))]
    kept = [runs[number] for number in fast]
    sums: Counter[tuple[str, int]] = Counter()
    first: dict[tuple[str, int], LayerTime] = {}
    for _, entries in kept:
        seen: Counter[str] = Counter()
        for entry in entries:
            key = entry.name, seen[entry.name]
            seen[entry.name] += 1
            sums[key] += entry.ns
            first.setdefault(key, entry)
    return LayerProfile(
        tuple(
            LayerTime(entry.name, entry.op, sums[key] // len(kept), entry.members)
            for key, entry in first.items()
        ),
        sum(total for total, _ in kept) // len(kept),
        len(kept),
        method,
        sum(between_ns[number] for number in fast) // len(fast) if between_ns else 0,
    )
