"""The job that runs inferences back to back for so long that a sensor can tell their energy.

The controller reads the sensors meanwhile (``runner/observe.py``). Power is looked at between two
times that this process reports: both lie among inferences, so nothing but inferences counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from cspbench.core.bounds import Amount, Positive
from cspbench.jobs._warm import warmed_up
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

#: Inferences that count go on for this long at least. Counters of devices are renewed every 20 to
#: 100 ms, and the sensors of A100 and H100 look at a quarter of the time only.
ENERGY_SECONDS = 5.0
#: So long inferences run before they count. NVML's power is a mean over the last second.
RAMP_SECONDS = 1.0


@dataclass(frozen=True)
class EnergyRequest(CaseRequest):
    """Measure the energy of one case."""

    job: ClassVar[str] = "energy"


@dataclass(frozen=True)
class EnergyResult:
    """So many inferences, which began and ended at these times of the system's monotonic clock."""

    inferences: Positive
    begin_s: Amount
    end_s: Amount

    @property
    def seconds(self) -> float:
        """Duration of the inferences."""
        return self.end_s - self.begin_s


def perform(request: EnergyRequest, phase: PhaseReport) -> EnergyResult:
    """Run them in this process."""
    phase("load")
    pool = request.inputs()
    session = request.load()
    phase("warm-up")
    feed, infer = warmed_up(session, request, pool)
    gc.collect()
    gc.disable()
    phase("sample")

    def one(number: int) -> None:
        feed(number)
        infer()

    result = back_to_back(one, max(ENERGY_SECONDS, request.max_seconds))
    phase("close")
    session.close()
    return result


def back_to_back(
    one: Callable[[int], None], seconds: float, now: Callable[[], float] = time.monotonic
) -> EnergyResult:
    """Run inferences without a pause: a ramp first, then those that count.

    Args:
        one: one inference, by its number.
        seconds: how long to go on with those that count; the last one is finished.
        now: the clock, in seconds.
    """
    number, start = 0, now()
    while now() - start < RAMP_SECONDS:
        one(number)
        number += 1
    begin, before = now(), number
    end = begin
    while number == before or end - begin < seconds:
        one(number)
        number += 1
        end = now()
    return EnergyResult(number - before, begin, end)


JOBS.add(
    JobKind(
        "energy", "energy of inferences back to back", EnergyRequest, EnergyResult, perform,
        policy=Policy.AFTER, setting="energy", sampling=True, observed=True, powered=True,
        on_board=True, found=lambda result: f"{result.inferences} inferences back to back",
    )
)  # fmt: skip
