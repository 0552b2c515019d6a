"""Bursts: a worker that keeps its model loaded and runs a few inferences whenever it is asked.

Two such workers take turns in a duet (``cspbench.runner.duet``). While the other one works, a
worker blocks on standard input and costs nothing. Three jobs: ``hold`` loads, checks and warms up,
``burst`` times some inferences, ``facts`` tells what environment the worker lives in.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cspbench.backends.spec import DeviceTimes
from cspbench.core.statuses import Status

if TYPE_CHECKING:
    from cspbench.backends.spec import Session
    from cspbench.measure.jobs import Answer, PhaseReport

#: Side of the square matrices whose product is one unit of extra work: about 10 us of one core.
UNIT_SIDE = 48
#: How many units give a first guess of a unit's time, and how often an inference is then compared.
UNITS_TIMED = 100
UNIT_ROUNDS = 61

_TASKS = Path("/proc/self/task")


class ExtraWork:
    """Real work beside an inference: products of small matrices, done by the same thread.

    With it a slowdown of known size is injected, to see what the gate can see.

    Args:
        units: products for each inference; fractions are carried over to the next one.
    """

    def __init__(self, units: float) -> None:
        import numpy as np

        self._units = units
        self._owed = 0.0
        self._factors = np.random.default_rng(0).random((2, UNIT_SIDE, UNIT_SIDE), np.float32)
        self._product = np.empty((UNIT_SIDE, UNIT_SIDE), np.float32)

    def work(self, units: int) -> None:
        """Do so many products."""
        import numpy as np

        left, right = self._factors
        for _ in range(units):
            np.matmul(left, right, out=self._product)

    def after_inference(self) -> None:
        """Do what one inference owes."""
        self._owed += self._units
        whole = int(self._owed)
        self._owed -= whole
        self.work(whole)


@dataclass
class _Held:
    """The model that this worker keeps."""

    session: Session
    feed: Callable[[int], None]
    infer: Callable[[], None]
    threads: int
    clock: str
    device: str = "cpu"
    done: int = 0


_held: _Held | None = None


def hold_job(job: Answer, phase: PhaseReport) -> Answer:
    """Load the model, check that it agrees with torch, warm up, keep it.

    With ``clock`` "host" a device's own events are not used, so that extra work of the host counts;
    nor are they where the scope of the case is more than the device's work.

    Returns:
        ``inference_ns`` (median of the last warm-up window), ``agreement``, ``backend``,
        ``affinity`` and ``nice``; with ``calibrate`` also ``units_per_inference``, how many units
        of extra work take as long as one inference.
    """
    global _held  # noqa: PLW0603 - one worker holds one model
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, device_of
    from cspbench.core.case import parse_case_id
    from cspbench.measure import sampling
    from cspbench.measure.agreement import check_agreement
    from cspbench.measure.clock import MonotonicClock
    from cspbench.measure.scope import INFERENCE, scope_of, timed_parts

    case = parse_case_id(job["case"])
    assert case.model.input is not None, "the controller sends whole ids"
    phase("load")
    pool = input_pool((case.batch, 3, *case.model.input), job["seed"])
    options = dict(case.backend.options)
    backend = BACKENDS.get(case.backend.name)
    session = backend.load(Path(job["artifact"]), options, case.threads)
    clock = job.get("clock", "device") if scope_of(options) == INFERENCE else "host"
    feed, infer = timed_parts(session, case, pool)
    held = _Held(session, feed, infer, case.threads, clock, device_of(backend, options))
    extra = float(job.get("extra_units", 0.0))
    if extra:
        held.infer = _followed_by(infer, ExtraWork(extra).after_inference)
    phase("warm-up")
    session.set_input(pool[0])
    session.run()
    agreement = check_agreement(session.outputs(), Path(job["reference"]), options)
    warm = sampling.warm_up(held.infer, held.feed, MonotonicClock(), job["warmup_seconds"])
    answer: Answer = {
        "status": Status.OK.value,
        "inference_ns": warm.window_medians_ns[-1] if warm.window_medians_ns else None,
        "steady": warm.steady,
        "agreement": agreement,
        "backend": dict(session.describe()),
        **conditions(),
    }
    if job.get("calibrate"):
        answer["units_per_inference"] = _units_per_inference(feed, infer)
    gc.collect()
    gc.disable()
    _held = held
    return answer


def _followed_by(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def _units_per_inference(feed: Callable[[int], None], infer: Callable[[], None]) -> float:
    """How many units of extra work take as long as one inference.

    Inferences and batches of units of about the same length take turns, and the median of their
    ratios counts: whoever else uses the processor then disturbs both alike.
    """
    extra = ExtraWork(0.0)
    now = time.perf_counter_ns

    def units_ns(units: int) -> int:
        start = now()
        extra.work(units)
        return now() - start

    def inference_ns(number: int) -> int:
        feed(number)
        start = now()
        infer()
        return now() - start

    unit_ns = min(units_ns(UNITS_TIMED) for _ in range(5)) / UNITS_TIMED
    batch = max(1, round(min(inference_ns(number) for number in range(5)) / unit_ns))
    return median(inference_ns(i) / units_ns(batch) * batch for i in range(UNIT_ROUNDS))


def burst_job(job: Answer, _phase: PhaseReport) -> Answer:
    """Run ``count`` inferences; inputs are put in place outside the timed part.

    Returns:
        ``ns`` (sum of the timed parts, by the device's events where it has some), ``count``, and
        ``lost_ns``: how much of that time this process was ready to run but did not (None where
        the system does not tell, and by a device's events).
    """
    assert _held is not None, "hold comes before burst"
    now = time.perf_counter_ns
    waited, ran = _waited_ns(), time.process_time_ns()
    begun = now()
    total = 0
    for _ in range(job["count"]):
        _held.feed(_held.done)
        _held.done += 1
        start = now()
        _held.infer()
        total += now() - start
    wall = now() - begun
    ran = time.process_time_ns() - ran
    device_ns = _device_ns(_held, job["count"])
    if device_ns is not None:
        return {
            "status": Status.OK.value, "ns": device_ns, "count": job["count"], "lost_ns": None,
        }  # fmt: skip
    after = _waited_ns()
    lost = None
    if waited is not None and after is not None:
        lost = max((after.get(task, 0) - before for task, before in waited.items()), default=0)
        if _held.threads == 1 and _held.device == "cpu":  # elsewhere it waits for a device
            lost = max(lost, wall - ran)  # stopped, or throttled by a quota: not even waiting
        lost = min(max(lost, 0), total)
    return {"status": Status.OK.value, "ns": total, "count": job["count"], "lost_ns": lost}


def _device_ns(held: _Held, count: int) -> int | None:
    """Time of the last ``count`` inferences by the device's own events; None without them."""
    if held.clock != "device" or not isinstance(held.session, DeviceTimes):
        return None
    each = held.session.device_times(count).get("device_ns")
    return None if each is None else each * count


def _waited_ns() -> dict[str, int] | None:
    """Time that each thread spent waiting on a run queue so far (/proc/PID/task/TID/schedstat)."""
    try:
        return {
            task.name: int((task / "schedstat").read_text().split()[1]) for task in _TASKS.iterdir()
        }
    except (OSError, IndexError, ValueError):
        return None


def conditions() -> Answer:
    """Under what conditions this worker runs: both arms must agree in them."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {"affinity": affinity, "nice": os.nice(0)}


def conditions_job(_job: Answer, _phase: PhaseReport) -> Answer:
    """The conditions now: somebody may have changed them from outside."""
    return {"status": Status.OK.value, **conditions()}


def facts_job(_job: Answer, _phase: PhaseReport) -> Answer:
    """Versions in the environment of this worker."""
    from cspbench.backends.spec import libraries
    from cspbench.machine.facts import library_versions

    return {
        "status": Status.OK.value,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "libraries": library_versions(libraries()),
    }


JOBS = {"hold": hold_job, "burst": burst_job, "conditions": conditions_job, "facts": facts_job}


def main() -> None:
    """Serve these jobs and those of every worker until standard input ends."""
    from cspbench.jobs import worker
    from cspbench.measure import jobs

    jobs.JOBS.update(JOBS)
    worker.main()


if __name__ == "__main__":
    main()
