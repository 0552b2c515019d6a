"""Bursts: a worker that keeps its model loaded and runs a few inferences whenever it is asked.

Such workers take turns in a block (``cspbench.runner.interleaved``). While another one works, a
worker blocks on standard input and costs nothing. ``load`` loads, checks and warms up, ``burst``
times some inferences, ``conditions`` says what the worker runs under, ``facts`` what environment
it lives in.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from cspbench.backends.spec import GAPS_INCLUDED, DeviceTimes, Extends
from cspbench.core.bounds import Amount, Count, Positive
from cspbench.errors import Unsupported
from cspbench.jobs.extra import ExtraWork, Switch
from cspbench.jobs.layers import LayerTimes, layer_times, load_profiled, warm_up
from cspbench.jobs.replay import Replays, load_replays
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Request
from cspbench.machine.sensors.nvml import Clocks, open_clocks
from cspbench.measure.agreement import Agreement
from cspbench.measure.sampling import WarmUp

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import LayerSession, Session

#: Most profiled inferences of a burst, and of all bursts: some profilers keep every event.
PROFILED_A_BURST, MOST_PROFILED = 20, 1000

_TASKS = Path("/proc/self/task")
#: Inferences by which a device shows whether its events time it alone.
FEWEST_TIMED = 3


@dataclass(frozen=True)
class LoadRequest(CaseRequest):
    """Load and warm up one case, and keep it.

    With ``layers`` the case is loaded once more with its backend's profiler on, and bursts
    alternate with profiled ones. With ``artifacts``, those of the networks ``cases``, their single
    layers are kept instead. ``extra_share`` injects so much more work, as a share of the time of
    each inference, on the device whose clock counts; with ``calibrated`` each burst has one
    without it beside it.
    """

    job: ClassVar[str] = "load"
    extra_share: float = 0.0
    calibrated: bool = False
    layers: bool = False
    cases: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the worker needs. Replays keep their memory, so no page faults count."""
        from cspbench.backends.spec import RETAINED

        return RETAINED if self.artifacts else super().environment


@dataclass(frozen=True)
class LoadResult:
    """A warm worker: median of an inference in the last warm-up window, and its conditions.

    Without a warm-up ``inference_ns`` is the first inference.

    ``load_ns`` is the time to load the model, ``first_ns`` that of the first inference.
    ``model_bytes`` is the size of the artifact's file.
    ``profiles`` says that the worker can be asked for times of layers.
    """

    inference_ns: Amount
    steady: bool
    backend: dict[str, Any]
    affinity: list[int] | None
    nice: int
    agreement: Agreement | None = None
    load_ns: Count = 0
    first_ns: Count = 0
    warmup: WarmUp | None = None
    profiles: bool = False
    model_bytes: Count = 0


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


@dataclass(frozen=True)
class ConditionsRequest(Request):
    """Report the conditions now: they may have been changed from outside.

    With ``processor`` the thread that infers keeps to it from now on.
    """

    processor: int | None = None
    job: ClassVar[str] = "conditions"


@dataclass(frozen=True)
class Conditions:
    """Under what conditions a worker runs: all that take turns must agree in them."""

    affinity: list[int] | None
    nice: int


@dataclass
class _Loaded:
    """What this worker keeps: a model, or layers to replay (then ``session`` is None).

    ``by_device`` says that a device's own events are the clock. ``profiled`` is the model once
    more, with its backend's profiler on.
    """

    request: LoadRequest
    session: Session | None
    feed: Callable[[int], None]
    infer: Callable[[], None]
    on_host: bool = True
    by_device: bool = False
    profiled: LayerSession | None = None
    inputs: Sequence[Feed] = ()
    replays: Replays | None = None
    clocks: Clocks | None = None
    switch_extra: Switch | None = None
    done: int = 0
    bursts: int = 0
    profiled_done: int = 0

    @property
    def threads(self) -> int:
        """Of the case."""
        return self.request.case.threads


_loaded: _Loaded | None = None


def load(request: LoadRequest, phase: PhaseReport) -> LoadResult:
    """Load the model, check that it agrees with its reference, warm up, keep it.

    A device's events are not used either where the scope of the case is more than its work.
    """
    if request.artifacts:
        phase("load")
        return _load_replays(request)
    from cspbench.backends.precisions import precision_of
    from cspbench.backends.spec import device_of
    from cspbench.machine.devices.spec import DEVICES
    from cspbench.measure import sampling
    from cspbench.measure.agreement import agree
    from cspbench.measure.clock import MonotonicClock
    from cspbench.measure.scope import INFERENCE, scope_of, timed_parts

    case, options, backend = request.case, request.options, request.backend
    phase("load")
    pool = request.inputs()
    monotonic = MonotonicClock()
    start = monotonic.now_ns()
    session = request.load()
    load_ns = monotonic.now_ns() - start
    by_device = scope_of(options) == INFERENCE and isinstance(session, DeviceTimes)
    feed, infer = timed_parts(session, case, pool)
    on_host = DEVICES.get(device_of(backend, options)).on_host
    loaded = _Loaded(request, session, feed, infer, on_host, by_device, inputs=pool)
    loaded.clocks = None if on_host else open_clocks()
    extends = session if by_device and isinstance(session, Extends) else None
    if request.extra_share and extends is None:
        alone = loaded.threads == 1 and on_host
        now = time.process_time_ns if alone else time.perf_counter_ns
        loaded.infer = longer = ExtraWork(infer, request.extra_share, now)
        loaded.switch_extra = longer.switch
    phase("warm-up")
    first_ns = sampling.timed(session.run, lambda _: session.set_input(pool[0]), monotonic, 0)
    precision = precision_of(backend, options)
    agreement = agree(session, pool, request.reference, precision)
    if loaded.by_device and isinstance(session, DeviceTimes):
        loaded.by_device = _is_clock(session)
    if request.extra_share and extends is not None:
        extends.extend(request.extra_share)
        loaded.switch_extra = extends.switch_extension
    if request.layers:
        with contextlib.suppress(Unsupported):  # the job `layers` says why
            loaded.profiled = load_profiled(request)
            warm_up(loaded.profiled, pool)
    return _keep(loaded, load_ns, first_ns, agreement)


def _load_replays(request: LoadRequest) -> LoadResult:
    """Load the layers to replay, and run the first passes."""
    now = time.perf_counter_ns
    start = now()
    replays = load_replays(
        request.backend, request.options, request.case.threads, request.artifacts
    )
    load_ns = now() - start
    start = now()
    replays.run()
    first_ns = now() - start
    replays.warm_up()
    loaded = _Loaded(request, None, lambda _: None, replays.run, replays=replays)
    return _keep(loaded, load_ns, first_ns, None)


def _keep(loaded: _Loaded, load_ns: int, first_ns: int, agreement: Agreement | None) -> LoadResult:
    """Warm up what was loaded, and keep it."""
    global _loaded  # noqa: PLW0603 - one worker holds one model
    from cspbench.measure import sampling
    from cspbench.measure.clock import MonotonicClock

    seconds = loaded.request.warmup_seconds
    warm = sampling.warm_up(loaded.infer, loaded.feed, MonotonicClock(), seconds)
    now = conditions()
    gc.collect()
    gc.disable()
    _loaded = loaded
    return LoadResult(
        inference_ns=warm.window_medians_ns[-1] if warm.window_medians_ns else first_ns,
        steady=warm.steady,
        agreement=agreement,
        backend=dict(loaded.session.describe()) if loaded.session is not None else {},
        affinity=now.affinity,
        nice=now.nice,
        load_ns=load_ns,
        first_ns=first_ns,
        warmup=warm,
        profiles=loaded.profiled is not None or loaded.replays is not None,
        model_bytes=loaded.request.artifact.stat().st_size,
    )


def burst(request: BurstRequest, _phase: PhaseReport) -> BurstResult:
    """Run the inferences; inputs are put in place outside the timed part.

    The profiled burst, or that without extra work, is before and after the plain one in turn.
    """
    assert _loaded is not None, "load comes before burst"
    before = time.process_time_ns()
    beside = _beside(_loaded, request.count) if _loaded.bursts % 2 else None
    plain = _with_clock(_plain_burst(_loaded, request.count), _loaded)
    profiled_ns, without_extra = beside or _beside(_loaded, request.count)
    _loaded.bursts += 1
    if profiled_ns is not None:
        each_ns = max(1, sum(plain.latencies_ns)) / plain.count
        plain = replace(plain, profiled=profiled_ns / each_ns)
    busy_ns = time.process_time_ns() - before
    return replace(plain, without_extra=without_extra, busy_ns=busy_ns)


def _beside(loaded: _Loaded, count: int) -> tuple[float | None, BurstResult | None]:
    """What stands beside a burst: the time of a profiled inference, a burst without extra work."""
    return _profiled_burst(loaded, count), _burst_without_extra(loaded, count)


def _burst_without_extra(loaded: _Loaded, count: int) -> BurstResult | None:
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


def _with_clock(result: BurstResult, loaded: _Loaded) -> BurstResult:
    """The burst with what the accelerator says of its clock, outside of what was timed."""
    if loaded.clocks is None:
        return result
    clock, throttled_s = loaded.clocks.read()
    return replace(result, clock_mhz=clock, throttled_ns=max(0, round(throttled_s * 1e9)))


def _profiled_burst(loaded: _Loaded, count: int) -> float | None:
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


def _plain_burst(loaded: _Loaded, count: int) -> BurstResult:
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


def _device_ns(loaded: _Loaded, count: int) -> int | None:
    """Time of the last ``count`` inferences by the device's own events; None without them.

    Raises:
        Unsupported: from now on they would hold gaps of submitting, as those before do not.
    """
    if not loaded.by_device or not isinstance(loaded.session, DeviceTimes):
        return None
    times = loaded.session.device_times(count)
    if GAPS_INCLUDED in times:
        raise Unsupported("the device's stream can be held back no more, as it could before")
    each = times.get("device_ns")
    return None if each is None else each * count


def _is_clock(session: DeviceTimes) -> bool:
    """Whether the device's events time what it does alone, without gaps of submitting."""
    return GAPS_INCLUDED not in session.device_times(FEWEST_TIMED)


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
    assert _loaded is not None, "load comes before profile"
    if _loaded.replays is not None:
        return ProfileResult(_loaded.replays.times(), _loaded.replays.skipped)
    assert _loaded.profiled is not None, "the case was loaded without a profiler"
    return ProfileResult(layer_times(_loaded.request, _loaded.profiled.profile()))


def report_conditions(request: ConditionsRequest, _phase: PhaseReport) -> Conditions:
    """The conditions, after keeping to a processor if that is asked for.

    An engine that chooses the processors of its threads itself (OpenVINO) goes on to do so.
    """
    if request.processor is not None and _loaded is not None:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {request.processor})
        _loaded.feed(0)
        _loaded.infer()
        if os.sched_getaffinity(0) != {request.processor}:
            os.sched_setaffinity(0, before)
    return conditions()


def conditions() -> Conditions:
    """Those of this process."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Conditions(affinity, os.nice(0))


JOBS.add(JobKind("load", "load and warm up a case, and keep it", LoadRequest, LoadResult, load))
JOBS.add(JobKind("burst", "a few inferences of it", BurstRequest, BurstResult, burst))
JOBS.add(JobKind("profile", "times of its layers", ProfileRequest, ProfileResult, profile))
JOBS.add(
    JobKind(
        "conditions", "affinity and priority of the worker now", ConditionsRequest, Conditions,
        report_conditions,
    )
)  # fmt: skip
