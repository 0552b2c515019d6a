"""Summaries of a window of readings: means, differences, energy, throttling. Pure functions.

Energy of an inference is the mean power over the window times the seconds of sampling, divided by
the number of inferences. It includes putting the next input in place, and idle power, which is
reported apart and never subtracted.

A counter of energy stands still between two renewals, so a difference of two readings is wrong by
what the device took since the last renewal before each. Where the counter was read finely, power is
therefore taken between two of its changes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from cspbench.machine.devices.spec import DEVICES, PowerSource
from cspbench.machine.sensors.monitor import TimedReading, Trace

#: A clock that falls by more than this share of itself at the start is throttled.
CLOCK_DROP = 0.10
#: A device that was throttled for more than this share of the window by its own counter is.
THROTTLED_SHARE = 0.01
#: Changes of a counter that power is taken from, at least: each is known to a reading's distance.
FEWEST_CHANGES = 5


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
        ``readings``, ``cost_share`` (processor time spent reading / window), and ``problem`` if
        the sensor went away or could not be opened.
    """
    return {trace.sensor: _summary(trace) for trace in traces}


def _summary(trace: Trace) -> dict[str, Any]:
    if not trace.readings:
        return {"readings": 0, "problem": trace.problem}
    first, last = trace.readings[0].values.counters, trace.readings[-1].values.counters
    summary: dict[str, Any] = {
        "readings": len(trace.readings),
        "window_s": trace.window_s,
        "cost_share": trace.cost_s / trace.window_s if trace.window_s else None,
        "gauges": {name: _levels(trace, name) for name in gauge_names([trace])},
        "counters": {name: last[name] - first[name] for name in first if name in last},
    }
    if trace.problem:
        summary["problem"] = trace.problem
    return summary


def gauge_names(traces: Iterable[Trace]) -> list[str]:
    """Every gauge that any reading has, in order of appearance."""
    names: dict[str, None] = {}
    for trace in traces:
        for reading in trace.readings:
            names.update(dict.fromkeys(reading.values.gauges))
    return list(names)


def _levels(trace: Trace, name: str) -> dict[str, float | int]:
    values = [value for _, value in series(trace.readings, name)]
    return {"mean": fmean(values), "min": min(values), "max": max(values), "count": len(values)}


def series(readings: Iterable[TimedReading], name: str) -> list[tuple[float, float]]:
    """(seconds, value) of a gauge in the readings that have it."""
    return [
        (reading.seconds, reading.values.gauges[name])
        for reading in readings
        if name in reading.values.gauges
    ]


def integral(points: Sequence[tuple[float, float]]) -> float:
    """Integral over time by trapezoids: watts over seconds give joules."""
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def power(
    traces: Sequence[Trace], device: str, begin_s: float = -math.inf, end_s: float = math.inf
) -> Power | None:
    """Mean power of the window from the best source for the device; None without a source.

    A window shorter than the period in which the source is renewed gives no number.

    Args:
        traces: readings of the sensors.
        device: name of the device.
        begin_s: earlier readings do not count.
        end_s: later readings do not count.
    """
    inside = [_between(trace, begin_s, end_s) for trace in traces]
    for source in DEVICES.get(device).power:
        for trace in inside:
            mean = (
                _between_changes(trace, source)
                or _counted(trace, source)
                or _integrated(trace, source.name)
            )
            if mean is not None:
                return mean
    return None


def _between(trace: Trace, begin_s: float, end_s: float) -> Trace:
    def kept(readings: Iterable[TimedReading]) -> list[TimedReading]:
        return [reading for reading in readings if begin_s <= reading.seconds <= end_s]

    return replace(trace, readings=kept(trace.readings), fine=kept(trace.fine))


def _between_changes(trace: Trace, source: PowerSource) -> Power | None:
    """Power between the first and the last change of a counter that was read finely.

    A change happened between the reading that shows it and the one before: in the middle, as far as
    is known.
    """
    counter, period = source
    points = [
        (reading.seconds, reading.values.counters[counter])
        for reading in trace.fine
        if counter in reading.values.counters
    ]
    changes = [
        ((before[0] + after[0]) / 2, after[1])
        for before, after in itertools.pairwise(points)
        if after[1] != before[1]
    ]
    if period is None or len(changes) < FEWEST_CHANGES:
        return None
    (first_s, first), (last_s, last) = changes[0], changes[-1]
    seconds = last_s - first_s
    method = f"{counter} between two of its changes ({trace.sensor})"
    return Power((last - first) / seconds, method, seconds / (len(changes) - 1), seconds)


def _counted(trace: Trace, source: PowerSource) -> Power | None:
    counter, period = source
    readings = [reading for reading in trace.readings if counter in reading.values.counters]
    if period is None or len(readings) < 2:
        return None
    seconds = readings[-1].seconds - readings[0].seconds
    if seconds < period:
        return None
    joules = readings[-1].values.counters[counter] - readings[0].values.counters[counter]
    return Power(joules / seconds, f"difference of {counter} ({trace.sensor})", period, seconds)


def _integrated(trace: Trace, source: str) -> Power | None:
    points = series(trace.readings, source)
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
    """Return the field ``energy`` of a launch record; None without power or inferences.

    Args:
        window: power while sampling.
        idle: power before the run.
        seconds: duration of the sampling.
        inferences: how many were timed.

    Returns:
        ``energy_per_inference_j``, ``power_w``, ``idle_power_w`` (None if it is unknown or was
        obtained by another method), ``energy_method``, and the resolution: ``period_s`` in which
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
    """True if the device reports throttling, or a clock fell by more than CLOCK_DROP.

    The CPU feeds every device, so its throttling counts for all.
    """
    spec = DEVICES.get(device)
    for trace in traces:
        # NVML may report a slowdown while the device changes its state: one report is not enough.
        if any(_slowed(trace, gauge) > 1 for gauge in spec.throttle_gauges):
            return True
        if any(_held_s(trace, name) > THROTTLED_SHARE * trace.window_s
               for name in spec.throttle_counters):  # fmt: skip
            return True
        counts = [reading.values.counters.get("cpu_throttle_events") for reading in trace.readings]
        known = [count for count in counts if count is not None]
        if known and known[-1] > known[0]:
            return True
        if any(
            _fell([value for _, value in series(trace.readings, clock)]) for clock in spec.clocks
        ):
            return True
    return False


def _held_s(trace: Trace, counter: str) -> float:
    """Seconds by which a counter of throttling grew in the window."""
    values = [
        reading.values.counters[counter]
        for reading in trace.readings
        if counter in reading.values.counters
    ]
    return values[-1] - values[0] if values else 0.0


def _slowed(trace: Trace, gauge: str) -> int:
    return sum(value > 0 for _, value in series(trace.readings, gauge))


def _fell(clock: Sequence[float]) -> bool:
    """Compare the medians of the last and the first third: one odd reading is no throttling."""
    third = len(clock) // 3
    if third == 0:
        return False
    return median(clock[-third:]) < (1 - CLOCK_DROP) * median(clock[:third])
