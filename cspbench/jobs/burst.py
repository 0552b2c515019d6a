"""Bursts: a worker that keeps its model loaded runs a few inferences whenever it is asked.

Such workers take turns in a block (``cspbench.runner.interleaved``). While another one works, a
worker blocks on standard input and costs nothing. What it keeps is loaded by `cspbench.jobs.load`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import fmean
from typing import ClassVar

from cspbench.backends.spec import GAPS_INCLUDED, DeviceTimes
from cspbench.core.bounds import Amount, Count, Positive
from cspbench.jobs.layers import LayerTimes, layer_times
from cspbench.jobs.load import Kept, kept
from cspbench.jobs.spec import JOBS, JobFailedError, JobKind, PhaseReport, Request

#: Most profiled inferences of a burst, and of all bursts: some profilers keep every event.
PROFILED_A_BURST, MOST_PROFILED = 20, 1000

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class BurstRequest(Request):
    """Run so many inferences of the loaded case."""

    count: int
    job: ClassVar[str] = "burst"


@dataclass(frozen=True)
class BurstResult:
    """Summed time of the inferences of a burst, by the device's events where it has some.

    ``lost_ns`` is how much of it the process was ready to run but did not; None where the system
    does not say, and by a device's events. ``latencies_ns`` are the inferences by the host's
    clock, ``running_ns`` the time that each of them ran, with one thread on a processor.
    ``minor_faults`` (pages that the kernel put in place), ``system_ns`` (time in the kernel)
    and ``own_ns`` (processor time of all threads) are the process's over the whole burst, which
    took ``wall_ns`` with the feeding of inputs. ``busy_ns`` is its processor time with what stands
    beside the burst. ``profiled`` is how many times longer an inference of the profiled burst
    beside it took. ``clock_mhz`` is an accelerator's clock at its end, and ``throttled_ns`` how
    long it was throttled since the end of the burst before. ``began_ns`` is when the burst began,
    by the one clock of all processes of the machine. ``without_extra`` is the burst beside it
    without the extra work that was injected.
    """

    ns: Count
    count: Positive
    lost_ns: Count | None = None
    latencies_ns: list[Count] = field(default_factory=list)
    minor_faults: Count | None = None
    system_ns: Count | None = None
    own_ns: Count | None = None
    busy_ns: Count | None = None
    wall_ns: Count | None = None
    profiled: Amount | None = None
    running_ns: list[Count] | None = None
    clock_mhz: Amount | None = None
    throttled_ns: Count | None = None
    began_ns: Count | None = None
    without_extra: BurstResult | None = None

    @property
    def by_device(self) -> bool:
        """Whether a device's own events timed it."""
        return self.ns != sum(self.latencies_ns)


@dataclass(frozen=True)
class ProfileRequest(Request):
    """Report the times of layers over all bursts; they end."""

    job: ClassVar[str] = "profile"


@dataclass(frozen=True)
class ProfileResult:
    """Times of layers; of replayed layers ``skipped`` says which could not be."""

    layers: LayerTimes
    skipped: dict[str, str] = field(default_factory=dict)


def burst(request: BurstRequest, _phase: PhaseReport) -> BurstResult:
    """Run the inferences; inputs are put in place outside the timed part.

    The profiled burst, or that without extra work, is after two plain ones, then before two. Where
    two sides alternate (ABBA) the first burst of a side in each second pair begins with the caches
    of the other side: as often a plain one as one of those beside them.
    """
    loaded = kept()
    before = time.process_time_ns()
    beside = _beside(loaded, request.count) if loaded.bursts // 2 % 2 else None
    plain = _with_clock(_plain_burst(loaded, request.count), loaded)
    profiled_ns, without_extra = beside or _beside(loaded, request.count)
    loaded.bursts += 1
    if profiled_ns is not None:
        each_ns = max(1, sum(plain.latencies_ns)) / plain.count
        plain = replace(plain, profiled=profiled_ns / each_ns)
    busy_ns = time.process_time_ns() - before
    return replace(plain, without_extra=without_extra, busy_ns=busy_ns)


def _beside(loaded: Kept, count: int) -> tuple[float | None, BurstResult | None]:
    """What stands beside a burst: the time of a profiled inference, a burst without extra work."""
    return _profiled_burst(loaded, count), _burst_without_extra(loaded, count)


def _burst_without_extra(loaded: Kept, count: int) -> BurstResult | None:
    """Also of a side that has no extra work, so that what runs before a burst is alike on both."""
    if not loaded.request.calibrated:
        return None
    if loaded.switch_extra is None:
        return _plain_burst(loaded, count)
    loaded.switch_extra(False)
    try:
        return _plain_burst(loaded, count)
    finally:
        loaded.switch_extra(True)


def _with_clock(result: BurstResult, loaded: Kept) -> BurstResult:
    """The burst with what the accelerator says of its clock, outside of what was timed."""
    if loaded.clocks is None:
        return result
    clock, throttled_s = loaded.clocks.read()
    return replace(result, clock_mhz=clock, throttled_ns=max(0, round(throttled_s * 1e9)))


def _profiled_burst(loaded: Kept, count: int) -> float | None:
    """Mean time of a few inferences with the profiler on; None without one, or with enough."""
    # On a device each of them is traced by itself, which takes longer than a whole burst.
    most = PROFILED_A_BURST if loaded.on_host else 1
    count = min(count, most, MOST_PROFILED - loaded.profiled_done)
    if loaded.profiled is None or count <= 0:
        return None
    first = loaded.profiled_done
    loaded.profiled_done += count
    inputs = loaded.inputs
    return fmean(
        loaded.profiled.run(inputs[number % len(inputs)]) for number in range(first, first + count)
    )


def _plain_burst(loaded: Kept, count: int) -> BurstResult:
    now, own = time.perf_counter_ns, time.process_time_ns
    alone = loaded.threads == 1 and loaded.on_host
    latencies, ran = [], []
    # The process's own clock says what one thread waited.
    waited = None if alone else _waited_ns()
    used, before = getrusage(RUSAGE_SELF), own()
    began = now()
    for _ in range(count):
        loaded.feed(loaded.done)
        loaded.done += 1
        on = own()
        start = now()
        loaded.infer()
        latencies.append(now() - start)
        ran.append(own() - on)
    wall = now() - began
    used_after = getrusage(RUSAGE_SELF)
    after = None if waited is None else _waited_ns()
    device_ns = _device_ns(loaded, count)
    total = sum(latencies)
    lost = running = None
    if device_ns is None and alone:
        # Each inference by itself: what was lost while inputs were put in place is not its.
        running = list(map(min, latencies, ran))
        lost = total - sum(running)
    elif device_ns is None and waited is not None and after is not None:
        most = max((after.get(task, 0) - first for task, first in waited.items()), default=0)
        lost = min(max(most, 0) * total // max(wall, 1), total)
    return BurstResult(
        ns=total if device_ns is None else device_ns,
        count=count,
        lost_ns=lost,
        latencies_ns=latencies,
        minor_faults=used_after.ru_minflt - used.ru_minflt,
        system_ns=round((used_after.ru_stime - used.ru_stime) * 1e9),
        own_ns=own() - before,
        wall_ns=wall,
        running_ns=running,
        began_ns=began,
    )


def _device_ns(loaded: Kept, count: int) -> int | None:
    """Time of ``count`` inferences by the device's own events; None without them.

    They are events around some more inferences, since events between those that the host timed
    would be part of what it timed.

    Raises:
        JobFailedError: from now on they would hold gaps of submitting, as those before do not.
    """
    if not loaded.by_device or not isinstance(loaded.session, DeviceTimes):
        return None
    times = loaded.session.device_times(count)
    if GAPS_INCLUDED in times:
        raise JobFailedError("the device's stream can be held back no more, as it could before")
    each = times.get("device_ns")
    return None if each is None else each * count


def _waited_ns() -> dict[str, int] | None:
    """Time that each thread spent waiting on a run queue so far (/proc/PID/task/TID/schedstat)."""
    try:
        return {
            task.name: int((task / "schedstat").read_text().split()[1]) for task in _TASKS.iterdir()
        }
    except (OSError, IndexError, ValueError):
        return None


def profile(_request: ProfileRequest, _phase: PhaseReport) -> ProfileResult:
    """Times of layers over all bursts so far; there are no more bursts after it."""
    loaded = kept()
    if loaded.replays is not None:
        return ProfileResult(loaded.replays.times(), loaded.replays.skipped)
    assert loaded.profiled is not None, "the case was loaded without a profiler"
    return ProfileResult(layer_times(loaded.request, loaded.profiled.profile()))


JOBS.add(JobKind("burst", "a few inferences of it", BurstRequest, BurstResult, burst))
JOBS.add(JobKind("profile", "times of its layers", ProfileRequest, ProfileResult, profile))
