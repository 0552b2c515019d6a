"""Each case from load to steady state: how long each phase takes, and what memory it takes.

What a service that starts, a command that runs once and a loop that runs for days care about is
each another phase, and engines trade one for the other.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from cspbench.measure.memory import MemoryUse

if TYPE_CHECKING:
    from cspbench.store.records import Record
    from cspbench.views.frames import Run

#: ``load_ms``, ``first_ms`` and ``warmup_count`` are medians over launches. ``first_times`` is the
#: first inference in steady ones. The bytes are those held after loading, after the first
#: inference, and at most (docs/metrics.md).
PHASE_COLUMNS = (
    "case", "load_ms", "compile_seconds", "loaded_bytes", "first_ms", "first_times",
    "after_first_bytes", "warmup_count", "latency_ms", "peak_memory_bytes",
)  # fmt: skip


def phases(run: Run) -> list[dict[str, Any]]:
    """One row a measured case, with the columns PHASE_COLUMNS; None for what was not obtained."""
    return [phase_row(record) for record in run.records if record.times]


def phase_row(record: Record) -> dict[str, Any]:
    """The row of one case that was measured."""
    times = record.times
    latency = record.latency_ms
    first_ms = median(one.first_ns for one in times) / 1e6
    compiled = record.newest("compile")
    memory = record.memory or MemoryUse()
    loaded, kept = memory.loaded_bytes, memory.retained_bytes
    return {
        "case": record.case,
        "load_ms": median(one.load_ns for one in times) / 1e6,
        "compile_seconds": compiled and compiled.compiled_seconds,
        "loaded_bytes": loaded,
        "first_ms": first_ms,
        "first_times": first_ms / latency.estimate if latency else None,
        "after_first_bytes": None if loaded is None or kept is None else loaded + kept,
        "warmup_count": median(one.warmup.count for one in times),
        "latency_ms": latency.estimate if latency else None,
        "peak_memory_bytes": memory.peak_memory_bytes,
    }
