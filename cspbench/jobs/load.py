"""Loads: a worker loads its model, checks it, warms it up and keeps it for bursts.

``load`` loads, checks and warms up. ``conditions`` says what the worker runs under. What is run
with the kept model is in `cspbench.jobs.burst`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cspbench.backends.spec import GAPS_INCLUDED, DeviceTimes, Extends
from cspbench.core.bounds import Amount, Count
from cspbench.errors import Unsupported
from cspbench.jobs.extra import ExtraWork, Switch
from cspbench.jobs.layers import load_profiled, warm_up
from cspbench.jobs.replay import Replays, load_replays
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Request
from cspbench.machine.sensors.nvml import Clocks, open_clocks
from cspbench.measure.agreement import Agreement
from cspbench.measure.sampling import WarmUp

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import LayerSession, Session

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
class ConditionsRequest(Request):
    """Report the conditions now: they may have been changed from outside.

    With ``processors`` the thread that infers keeps to them from now on.
    """

    processors: list[int] | None = None
    job: ClassVar[str] = "conditions"


@dataclass(frozen=True)
class Conditions:
    """Under what conditions a worker runs: all that take turns must agree in them."""

    affinity: list[int] | None
    nice: int


@dataclass
class Kept:
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


_kept: Kept | None = None


def kept() -> Kept:
    """What this worker loaded; its controller asks for nothing else before."""
    assert _kept is not None, "load comes first"
    return _kept


def load(request: LoadRequest, phase: PhaseReport) -> LoadResult:
    """Load the model, check that it agrees with its reference, warm up, keep it.

    A device's events are not used either where the scope of the case is more than its work.
    """
    global _kept  # noqa: PLW0603 - one worker holds one model
    _kept = None
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
    loaded = Kept(request, session, feed, infer, on_host, by_device, inputs=pool)
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
        loaded.by_device = is_clock(session)
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
    loaded = Kept(request, None, lambda _: None, replays.run, replays=replays)
    return _keep(loaded, load_ns, first_ns, None)


def _keep(loaded: Kept, load_ns: int, first_ns: int, agreement: Agreement | None) -> LoadResult:
    """Warm up what was loaded, and keep it."""
    global _kept  # noqa: PLW0603 - one worker holds one model
    from cspbench.measure import sampling
    from cspbench.measure.clock import MonotonicClock

    seconds = loaded.request.warmup_seconds
    warm = sampling.warm_up(loaded.infer, loaded.feed, MonotonicClock(), seconds)
    now = conditions()
    gc.collect()
    gc.disable()
    _kept = loaded
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


def is_clock(session: DeviceTimes) -> bool:
    """Whether the device's events time what it does alone, without gaps of submitting."""
    return GAPS_INCLUDED not in session.device_times(FEWEST_TIMED)


def report_conditions(request: ConditionsRequest, _phase: PhaseReport) -> Conditions:
    """The conditions, after keeping to some processors if that is asked for.

    An engine that chooses the processors of its threads itself (OpenVINO) goes on to do so.
    """
    if request.processors is not None and _kept is not None:
        before, wanted = os.sched_getaffinity(0), set(request.processors)
        os.sched_setaffinity(0, wanted)
        _kept.feed(0)
        _kept.infer()
        if os.sched_getaffinity(0) != wanted:
            os.sched_setaffinity(0, before)
    return conditions()


def conditions() -> Conditions:
    """Those of this process."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Conditions(affinity, os.nice(0))


JOBS.add(
    JobKind(
        "load", "load and warm up a case, and keep it", LoadRequest, LoadResult, load,
        on_board=True,
    )
)  # fmt: skip
JOBS.add(
    JobKind(
        "conditions", "affinity and priority of the worker now", ConditionsRequest, Conditions,
        report_conditions,
    )
)  # fmt: skip
