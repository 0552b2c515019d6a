"""Shared by the profilers of the backends: repeated runs, and medians entry by entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from cspbench.backends.spec import LayerProfile, LayerTime, Workload

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed

#: Fewest and most profiled runs.
MIN_RUNS, MAX_RUNS = 5, 200
WARM_RUNS = 2


def repeat(run: Callable[[Feed], object], work: Workload) -> None:
    """Call ``run`` with the inputs in turn, until the time is over.

    The first WARM_RUNS calls do not count.
    """
    count = 0
    end = None
    while True:
        run(work.inputs[count % len(work.inputs)])
        count += 1
        if count == WARM_RUNS:
            end = time.monotonic() + work.seconds
        measured = count - WARM_RUNS
        if measured >= MAX_RUNS or (end and measured >= MIN_RUNS and time.monotonic() >= end):
            return


def profile(
    run: Callable[[Feed], tuple[int, Sequence[LayerTime]]], work: Workload, method: str
) -> LayerProfile:
    """Repeat a profiled run, and take the median of every entry.

    ``run`` is one inference; it returns its time in ns and its entries, the same ones each time.
    """
    totals: list[int] = []
    profiles: list[Sequence[LayerTime]] = []

    def once(feed: Feed) -> None:
        total, entries = run(feed)
        totals.append(total)
        profiles.append(entries)

    repeat(once, work)
    return combine(totals[WARM_RUNS:], profiles[WARM_RUNS:], method)


def combine(
    totals: Sequence[int], profiles: Sequence[Sequence[LayerTime]], method: str
) -> LayerProfile:
    """Medians over runs; entries are matched by position."""
    entries = tuple(
        LayerTime(same[0].name, same[0].op, int(median(entry.ns for entry in same)),
                  same[0].members)
        for same in zip(*profiles, strict=True)
    )  # fmt: skip
    return LayerProfile(entries, int(median(totals)), len(totals), method)
