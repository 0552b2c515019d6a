"""Cases invented entry by entry, for tests of the attribution."""

from cspbench.attribution.causes import Side
from cspbench.attribution.work import Entry, Family
from cspbench.measure.statistics import Interval

OVERHEAD_MS = 0.1


def entry(role, ms, compute=0.0, memory=0.0, family=None, stage="stages.0", **facts):
    """An entry; what computes is arithmetic, what only moves is movement."""
    if family is None:
        family = Family.ARITHMETIC if compute else Family.MOVEMENT
    return Entry(
        name=role, op=role, stage=stage, role=role, family=family, ms=ms, compute_ms=compute,
        memory_ms=memory, overhead_ms=min(ms, OVERHEAD_MS), **facts,
    )  # fmt: skip


def concatenation(ms, stage="stages.0"):
    """A concatenation of a stage."""
    return entry("concatenation", ms, family=Family.CONCATENATION, stage=stage)


def side(case, latency_ms, entries, *, width=0.01, batch=1, macs=1000, traffic_bytes=1000):
    """A case whose latency has an interval of plus and minus ``width``; None for no interval."""
    bounds = (None, None) if width is None else (latency_ms * (1 - width), latency_ms * (1 + width))
    return Side(
        case=f"{case}@64/opencv-cpu/b{batch}/t1",
        latency=Interval(latency_ms, *bounds),
        batch=batch,
        macs=macs,
        traffic_bytes=traffic_bytes,
        entries=tuple(entries),
        profiled_ms=latency_ms,
    )


def parts_of(explanation):
    """Differences in ms by cause, those that are 0 left out."""
    return {
        part.key: round(part.difference_ms, 9)
        for part in explanation.parts
        if abs(part.difference_ms) > 1e-9
    }
