"""What a device did, from the records of its tracer: pure functions.

A record is one kernel, or one copy or setting of the device's memory, as CUPTI gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from cspbench.backends.spec import Kernels, LayerTime

#: How CUPTI's records of memory begin; all others are kernels.
MEMORY = ("Memcpy", "Memset")
#: The kernel by which the stream is held back (`common/device_clock.py`).
STALL = "spin_kernel"


@dataclass(frozen=True)
class DeviceRecord:
    """One record: its name and when it began and ended, in ns."""

    name: str
    begin_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        """Its duration."""
        return self.end_ns - self.begin_ns


@dataclass
class Range:
    """What was submitted while one node of a graph ran: names and durations of its kernels."""

    node: str
    op: str
    kernels: list[tuple[str, int]] = field(default_factory=list)

    @property
    def ns(self) -> int:
        """Summed duration."""
        return sum(ns for _, ns in self.kernels)


def without_stall(records: Iterable[DeviceRecord]) -> list[DeviceRecord]:
    """The records of an inference, in the order of their begin."""
    kept = [record for record in records if STALL not in record.name]
    return sorted(kept, key=lambda record: record.begin_ns)


def covered_ns(records: Sequence[DeviceRecord]) -> int:
    """Time in which at least one of the records was under way; they are in order."""
    total, end = 0, 0
    for record in records:
        total += max(0, record.end_ns - max(record.begin_ns, end))
        end = max(end, record.end_ns)
    return total


def summed_up(runs: Sequence[Sequence[DeviceRecord]]) -> Kernels | None:
    """Medians over inferences; None without any record."""
    rows = []
    for run in runs:
        records = without_stall(run)
        kernels = [record for record in records if not record.name.startswith(MEMORY)]
        copies = [record for record in records if record.name.startswith(MEMORY)]
        rows.append((len(kernels), covered_ns(kernels), covered_ns(copies)))
    if not rows or not any(count for count, _, _ in rows):
        return None
    count, busy, copied = (int(median(values)) for values in zip(*rows, strict=True))
    return Kernels(count, busy, copied, len(rows))


def layer_times(ranges: Sequence[Range]) -> list[LayerTime]:
    """An entry for each node that had work on the device."""
    return [LayerTime(item.node, item.op, item.ns, (item.node,)) for item in ranges if item.kernels]


def tied(records: Sequence[DeviceRecord], ranges: Sequence[Range]) -> list[LayerTime]:
    """Entries of kernels that were recorded without their nodes, as a replayed graph's are.

    If an eager run of the same graph submitted kernels of the same names in the same order, each
    belongs to the node that submitted it there. Otherwise every kernel is an entry of its own, and
    no node of the network is in it.

    Args:
        records: of one replay, in order.
        ranges: of the eager run.
    """
    eager = [(name, item) for item in ranges for name, _ in item.kernels]
    if [name for name, _ in eager] != [record.name for record in records]:
        return [LayerTime(record.name, "kernel", record.ns) for record in records]
    sums: dict[str, int] = {}
    for (_, item), record in zip(eager, records, strict=True):
        sums[item.node] = sums.get(item.node, 0) + record.ns
    ops: Mapping[str, str] = {item.node: item.op for item in ranges}
    return [LayerTime(node, ops[node], ns, (node,)) for node, ns in sums.items()]
