"""What an arm of a block found, as the result of a timing launch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from cspbench.core.statuses import Status
from cspbench.jobs.burst import BurstResult, ProfileResult
from cspbench.jobs.replay import ReplayRequest, ReplayResult
from cspbench.jobs.spec import to_plain
from cspbench.jobs.time import TimeRequest, TimeResult, Turns
from cspbench.machine.devices.spec import DEVICES
from cspbench.machine.sensors.proc import Interference
from cspbench.measure.sampling import Drift, WarmUp, drift_of
from cspbench.measure.scope import scope_of
from cspbench.measure.statistics import batch_means_half_width
from cspbench.measure.threads import wrong_threads
from cspbench.runner.arms import Burst, Loaded, if_all_told
from cspbench.runner.process import Outcome


def own_seconds(bursts: Sequence[Burst]) -> float:
    """Processor time of an arm's process in its bursts."""
    return sum(result.own_ns or 0 for result in _results(bursts)) / 1e9


def busy_seconds(bursts: Sequence[Burst]) -> float:
    """The same with the profiled bursts beside them."""
    return sum(result.busy_ns or 0 for result in _results(bursts)) / 1e9


def arm_outcome(
    request: TimeRequest,
    block: str,
    loaded: Loaded,
    bursts: Sequence[Burst],
    drift: Drift | None,
    interference: Interference | None,
    profile: ProfileResult | None = None,
    *,
    arms: int,
    alone: bool = False,
    precise: bool = False,
) -> Outcome:
    """The outcome of a launch in a block.

    Args:
        request: its case.
        block: name of the block.
        loaded: what the worker reported when it was warm.
        bursts: one a round.
        drift: of the case against the others of its rounds; without others its own counts.
        interference: what other processes took while turns were taken.
        profile: times of its layers, if it had a profiler at work.
        arms: how many processes took turns in the block.
        alone: it was the only arm of its block.
        precise: its turns ended since its samples were enough.
    """
    result, results = loaded.result, _results(bursts)
    assert result is not None, "a real worker reports its load"
    if isinstance(request, ReplayRequest):
        return _replay_outcome(request, block, arms, results, profile)
    assert result.agreement is not None, "only replays have no reference"
    problem = _wrong_threads(request, result.backend.get("threads"), bursts)
    if problem:
        return Outcome(Status.FAILED, problem)
    samples = [ns for burst in results for ns in burst.latencies_ns]
    drift = drift_of(samples) if alone else drift
    warm = result.warmup or WarmUp(0, result.steady)
    timed = TimeResult(
        latencies_ns=samples,
        load_ns=result.load_ns,
        first_ns=result.first_ns,
        # Beside loading neighbours no warm-up looks steady. What counts is that the case does not
        # drift against the others, if there are any.
        warmup=WarmUp(
            warm.count,
            warm.steady if alone else drift is None or not drift.slow,
            warm.window_medians_ns,
        ),
        agreement=result.agreement,
        sample_seconds=sum(samples) / 1e9,
        scope=scope_of(request.options),
        stop="target_ci" if precise else "max_seconds",
        relative_half_width=batch_means_half_width(samples),
        backend=result.backend,
        interference=interference,
        drift=drift,
        device=_device_times(results),
        turns=_turns(block, arms, results, on_host=DEVICES.get(request.device).on_host),
        layers=profile.layers if profile is not None else None,
    )
    return Outcome(Status.OK, answer=to_plain(timed))


def _replay_outcome(
    request: ReplayRequest,
    block: str,
    arms: int,
    results: Sequence[BurstResult],
    profile: ProfileResult | None,
) -> Outcome:
    if profile is None:
        return Outcome(Status.FAILED, "the worker was lost before it told the layers' times")
    replayed = ReplayResult(
        cases=list(request.cases),
        latencies_ns=[ns for burst in results for ns in burst.latencies_ns],
        turns=_turns(block, arms, results),
        layers=profile.layers,
        skipped=profile.skipped,
    )
    return Outcome(Status.OK, answer=to_plain(replayed))


def _results(bursts: Sequence[Burst]) -> list[BurstResult]:
    return [burst.result for burst in bursts if burst.result is not None]


def _on_device(results: Sequence[BurstResult]) -> bool:
    """Whether the bursts were timed by a device's own events."""
    return any(burst.by_device for burst in results)


def _device_times(results: Sequence[BurstResult]) -> dict[str, float | None] | None:
    if not _on_device(results):
        return None
    return {"device_ns": median(burst.ns / burst.count for burst in results)}


def _turns(block: str, arms: int, results: Sequence[BurstResult], *, on_host: bool = True) -> Turns:
    """The turns of an arm; what a host's thread waited says nothing of work on a device."""
    running = [ns for burst in results for ns in burst.running_ns or ()]
    counts = [burst.count for burst in results]
    clocks = [burst.clock_mhz for burst in results]
    return Turns(
        block=block,
        counts=counts,
        lost_ns=if_all_told([burst.lost_ns for burst in results]) if on_host else None,
        running_ns=running if len(running) == sum(counts) else None,
        device_ns=[burst.ns for burst in results] if _on_device(results) else None,
        minor_faults=_sum([burst.minor_faults for burst in results]),
        system_ns=_sum([burst.system_ns for burst in results]),
        clock_mhz=clocks if any(clock is not None for clock in clocks) else None,
        throttled_ns=if_all_told([burst.throttled_ns for burst in results]),
        began_ns=if_all_told([burst.began_ns for burst in results]),
        arms=arms,
        profiled=[burst.profiled for burst in results if burst.profiled is not None] or None,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    """The sum; None if the system does not tell all of them."""
    return None if None in values else sum(value for value in values if value is not None)


def _wrong_threads(request: TimeRequest, reported: object, bursts: Sequence[Burst]) -> str | None:
    if not DEVICES.get(request.device).on_host:
        return None
    used = Interference(
        seconds=sum(result.wall_ns or 0 for result in _results(bursts)) / 1e9,
        foreign_cpu_s=0.0,
        steal_s=0.0,
        load_1m_before=0.0,
        load_1m_after=0.0,
        own_cpu_s=own_seconds(bursts),
    )
    return wrong_threads(request.case.threads, reported, used)
