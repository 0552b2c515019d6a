"""A launch in this very process: what a worker and its controller do, one after the other."""

from __future__ import annotations

import gc

from cspbench.core.statuses import Status
from cspbench.jobs import load
from cspbench.jobs.burst import BurstResult
from cspbench.jobs.spec import JOBS
from cspbench.jobs.time import TimeRequest
from cspbench.jobs.worker import perform
from cspbench.runner.arm_result import arm_outcome
from cspbench.runner.arms import Burst, Loaded
from cspbench.runner.process import Outcome


def timed_here(job, bursts=2, count=3):
    """Time the case of a job (that of a `TimeRequest`) alone; some bursts of a few inferences."""
    try:
        loaded = _asked({**job, "job": "load"})
        if loaded["status"] != "ok":
            return Outcome(Status(loaded["status"]), loaded["reason"])
        taken = [_asked({"job": "burst", "count": count}) for _ in range(bursts)]
        result = JOBS.get("load").read(loaded)
        arm = Loaded(result.inference_ns, load.conditions(), result)
        each = [_burst(JOBS.get("burst").read(one)) for one in taken]
        return arm_outcome(
            TimeRequest.from_json(job), "0.0", arm, each, None, None, arms=1, alone=True
        )
    finally:
        gc.enable()  # a worker that takes bursts has it off
        load._kept = None


def _asked(job):
    return perform(job, lambda phase: None)


def _burst(result: BurstResult):
    return Burst(result.ns, result.count, result.lost_ns, result)
