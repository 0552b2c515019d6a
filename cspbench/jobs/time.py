"""The job that times: load, check agreement, warm up, sample, all in the scope of the case."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any, ClassVar

from cspbench.core.bounds import Amount, AtMost, Count, Latencies
from cspbench.jobs.spec import JOBS, CaseRequest, JobFailedError, JobKind, PhaseReport, Policy
from cspbench.machine.sensors.proc import Interference
from cspbench.measure.agreement import Agreement
from cspbench.measure.sampling import Drift, WarmUp


@dataclass(frozen=True)
class TimeRequest(CaseRequest):
    """Time one case."""

    job: ClassVar[str] = "time"


@dataclass(frozen=True)
class TimeResult:
    """What a timing launch found.

    ``latencies_ns`` are the samples in order. The first inference (``first_ns``) and the check are
    those of a plain inference, whatever the scope. ``stop`` says why sampling stopped. ``device``
    holds medians in ns by what they are of, where the device has a clock of its own.
    """

    latencies_ns: Latencies
    load_ns: Count
    first_ns: Count
    warmup: WarmUp
    agreement: Agreement
    sample_seconds: Amount | None = None
    scope: str = "inference"
    stop: str = ""
    relative_half_width: Amount | None = None
    backend: dict[str, Any] = field(default_factory=dict)
    interference: Interference | None = None
    drift: Drift | None = None
    device: Annotated[dict[str, Amount | None], AtMost(1000)] | None = None

    @property
    def median_ms(self) -> float:
        """Median of the samples."""
        return median(self.latencies_ns) / 1e6


def perform(request: TimeRequest, phase: PhaseReport) -> TimeResult:
    """Time one case in this process.

    Raises:
        JobFailedError: it did not run with its threads, or its outputs are not the model's.
    """
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, DeviceTimes, device_of, precision_of
    from cspbench.machine.devices.spec import DEVICES
    from cspbench.machine.sensors.proc import between, read_cpu_times
    from cspbench.measure import sampling
    from cspbench.measure.agreement import check_agreement
    from cspbench.measure.clock import MonotonicClock
    from cspbench.measure.scope import INFERENCE, scope_of, timed_parts
    from cspbench.measure.threads import wrong_threads

    case, options = request.case, request.options
    clock = MonotonicClock()
    phase("load")
    pool = input_pool(case.input_shape, request.seed)
    start = clock.now_ns()
    backend = BACKENDS.get(case.backend.name)
    session = backend.load(request.artifact, options, case.threads)
    load_ns = clock.now_ns() - start

    phase("warm-up")
    first_ns = sampling.timed(session.run, lambda _: session.set_input(pool[0]), clock, 0)
    precision = precision_of(backend, options)
    agreement = check_agreement(session.outputs(), request.reference, precision)
    feed, infer = timed_parts(session, case, pool)
    warm = sampling.warm_up(infer, feed, clock, request.warmup_seconds)
    phase("sample")
    gc.collect()
    gc.disable()
    before = read_cpu_times()
    begin = clock.now_ns()
    samples = sampling.sample(infer, feed, clock, request.target_ci, request.max_seconds)
    sample_seconds = (clock.now_ns() - begin) / 1e9
    interference = between(before, read_cpu_times())
    gc.enable()
    facts = dict(session.describe())
    if DEVICES.get(device_of(backend, options)).on_host:
        problem = wrong_threads(case.threads, facts.get("threads"), interference)
        if problem:
            raise JobFailedError(problem)
    phase("close")
    device = None
    if isinstance(session, DeviceTimes) and scope_of(options) == INFERENCE:
        device = dict(session.device_times(len(samples.latencies_ns)))
    session.close()
    return TimeResult(
        latencies_ns=samples.latencies_ns,
        load_ns=load_ns,
        first_ns=first_ns,
        warmup=warm,
        agreement=agreement,
        sample_seconds=sample_seconds,
        scope=scope_of(options),
        stop=samples.stop,
        relative_half_width=samples.relative_half_width,
        backend=facts,
        interference=interference,
        drift=sampling.drift_of(samples.latencies_ns),
        device=device,  # type: ignore[arg-type]
    )


def flags(result: TimeResult) -> list[str]:
    """What may have spoilt the latencies, as the worker saw it."""
    drift, interference = result.drift, result.interference
    spoilt = {
        "not_steady": not result.warmup.steady or (drift is not None and drift.slow),
        "contended": interference is not None and interference.contended(),
        "fallback_engine": "fallback" in result.backend,
    }
    return [flag for flag, holds in spoilt.items() if holds]


JOBS.add(
    JobKind(
        "time", "latencies of one case", TimeRequest, TimeResult, perform,
        policy=Policy.ROUNDS, sampling=True, observed=True, on_board=True, flags=flags,
        found=lambda result: f"{result.median_ms:.2f} ms",
    )
)  # fmt: skip
