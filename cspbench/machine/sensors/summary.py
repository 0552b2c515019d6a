"""What a window of readings says: means, differences, energy, throttling. Pure functions.

Energy of an inference is mean power over the watched window times the seconds that the sampling
took, divided by the inferences: putting the next input in place is in it, idle power too (idle is
reported apart and never subtracted).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from cspbench.machine.devices.spec import DEVICES, PowerSource
from cspbench.machine.sensors.watch import Look, Trace

#: A clock that falls by more than this share of itself at the start is throttled.
CLOCK_DROP = 0.10


@dataclass(frozen=True)
class Power:
    """Mean power over a window, in watts, and how it was obtained."""

    watts: float
    method: str
    period_s: float
    window_s: float


def summarise(traces: Sequence[Trace]) -> dict[str, Any]:
    """Return the field ``sensors`` of a launch record.

    Returns:
        by sensor: ``gauges`` (mean, min, max, count), ``counters`` (their growth), ``window_s``,
        ``readings``, ``cost_share`` (processor time spent reading / window), and ``problem`` if it
        went away or could not be opened.
    """
    return {trace.sensor: _summary(trace) for trace in traces}


def _summary(trace: Trace) -> dict[str, Any]:
    if not trace.looks:
        return {"readings": 0, "problem": trace.problem}
    first, last = trace.looks[0].reading.counters, trace.looks[-1].reading.counters
    found: dict[str, Any] = {
        "readings": len(trace.looks),
        "window_s": trace.window_s,
        "cost_share": trace.cost_s / trace.window_s if trace.window_s else None,
        "gauges": {name: _levels(trace, name) for name in gauge_names([trace])},
        "counters": {name: last[name] - first[name] for name in first if name in last},
    }
    if trace.problem:
        found["problem"] = trace.problem
    return found


def gauge_names(traces: Iterable[Trace]) -> list[str]:
    """Every gauge that any look has, in order of appearance."""
    names: dict[str, None] = {}
    for trace in traces:
        for look in trace.looks:
            names.update(dict.fromkeys(look.reading.gauges))
    return list(names)


def _levels(trace: Trace, name: str) -> dict[str, float | int]:
    values = [value for _, value in series(trace.looks, name)]
    return {"mean": fmean(values), "min": min(values), "max": max(values), "count": len(values)}


def series(looks: Iterable[Look], name: str) -> list[tuple[float, float]]:
    """(seconds, value) of a gauge in the looks that have it."""
    return [
        (look.seconds, look.reading.gauges[name]) for look in looks if name in look.reading.gauges
    ]


def integral(points: Sequence[tuple[float, float]]) -> float:
    """Integral over time by trapezoids: watts over seconds give joules."""
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def power(traces: Sequence[Trace], device: str) -> Power | None:
    """Mean power of the window from the best source for the device; None if nothing tells it.

    A window shorter than the period in which the source is renewed gives no number.
    """
    for source in DEVICES.get(device).power:
        for trace in traces:
            found = _counted(trace, source) or _integrated(trace, source.name)
            if found is not None:
                return found
    return None


def _counted(trace: Trace, source: PowerSource) -> Power | None:
    counter, period = source
    looks = [look for look in trace.looks if counter in look.reading.counters]
    if period is None or len(looks) < 2:
        return None
    seconds = looks[-1].seconds - looks[0].seconds
    if seconds < period:
        return None
    joules = looks[-1].reading.counters[counter] - looks[0].reading.counters[counter]
    return Power(joules / seconds, f"difference of {counter} ({trace.sensor})", period, seconds)


def _integrated(trace: Trace, source: str) -> Power | None:
    points = series(trace.looks, source)
    if len(points) < 2:
        return None
    seconds = points[-1][0] - points[0][0]
    if seconds < trace.period_s:
        return None
    method = f"integral of {source} ({trace.sensor}, {1 / trace.period_s:g} Hz)"
    return Power(integral(points) / seconds, method, trace.period_s, seconds)


def energy(
    window: Power | None, idle: Power | None, seconds: float, inferences: int
) -> dict[str, Any] | None:
    """Return the field ``energy`` of a launch record; None without a number.

    Args:
        window: power while sampling.
        idle: power before the run.
        seconds: how long the sampling took.
        inferences: how many it timed.

    Returns:
        ``energy_per_inference_j``, ``power_w``, ``idle_power_w`` (None if it was obtained in
        another way or not at all), ``energy_method``, and the resolution: ``period_s`` in which
        the source is renewed and ``window_s`` over which it was read.
    """
    if window is None or inferences == 0:
        return None
    comparable = idle is not None and idle.method == window.method
    return {
        "energy_per_inference_j": window.watts * seconds / inferences,
        "power_w": window.watts,
        "idle_power_w": idle.watts if comparable and idle is not None else None,
        "energy_method": window.method,
        "period_s": window.period_s,
        "window_s": window.window_s,
    }


def throttled(traces: Sequence[Trace], device: str) -> bool:
    """True if the device said so, or a clock fell by more than CLOCK_DROP of that at the start.

    The CPU feeds every device, so its throttling counts for all.
    """
    spec = DEVICES.get(device)
    for trace in traces:
        # NVML may name a slowdown while the device changes its state: once is not enough.
        if any(_slowed(trace, gauge) > 1 for gauge in spec.throttle_gauges):
            return True
        counts = [look.reading.counters.get("cpu_throttle_events") for look in trace.looks]
        known = [count for count in counts if count is not None]
        if known and known[-1] > known[0]:
            return True
        if any(_fell([value for _, value in series(trace.looks, clock)]) for clock in spec.clocks):
            return True
    return False


def _slowed(trace: Trace, gauge: str) -> int:
    return sum(value > 0 for _, value in series(trace.looks, gauge))


def _fell(clock: Sequence[float]) -> bool:
    """The median of the last third against that of the first: one odd reading is no throttling."""
    third = len(clock) // 3
    if third == 0:
        return False
    return median(clock[-third:]) < (1 - CLOCK_DROP) * median(clock[:third])
