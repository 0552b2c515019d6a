"""Measure one case: generations until the looks decide, or until an arm is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from cspbench.backends.spec import BACKENDS, device_of
from cspbench.core.statuses import Status
from cspbench.gating.decide import (
    LOOKS,
    Decision,
    Finding,
    Look,
    decide,
    generation_estimate,
    starvation,
)
from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import Lost, percent
from cspbench.jobs.burst import HoldRequest
from cspbench.runner.duet import (
    PAIRS,
    ArmLostError,
    ArmSpec,
    Generation,
    MakeArm,
    Side,
    WorkerArm,
    generations,
)
from cspbench.suite.suite import Gate, Measure

#: Warm-up bound of an arm: it is repeated in every generation.
WARMUP_SECONDS = 1.0


@dataclass
class CaseData:
    """The generations of one measurement and what they say."""

    outcome: Decision | Lost
    generations: list[Generation] = field(default_factory=list)
    seconds: float = 0.0
    #: How the arm that was lost ended; None if none was.
    status: Status | None = None

    def median_ms(self, side: Side) -> float | None:
        """Median over bursts of the time of an inference."""
        times = [ns for generation in self.generations for ns in generation.inference_ns(side)]
        return median(times) / 1e6 if times else None


def measure_case(
    make_arm: MakeArm,
    gate: Gate,
    looks: Sequence[Look] = LOOKS,
    tell: Callable[[Decision], None] = lambda _: None,
    pairs: int = PAIRS,
) -> CaseData:
    """Take generations until the looks decide or an arm is lost.

    Args:
        make_arm: makes the arms of both sides.
        gate: smallest effect and tolerance.
        looks: when to look.
        tell: is shown the decision so far after each generation.
        pairs: pairs of bursts in a generation.
    """
    started = time.monotonic()
    data = CaseData(Lost("arm_ended", "nothing was measured"))
    estimates: list[float] = []
    running: list[float] = []
    stream = generations(make_arm, pairs)
    try:
        with contextlib.closing(stream):  # type: ignore[type-var]
            for generation in stream:
                data.generations.append(generation)
                times = (generation.inference_ns("base"), generation.inference_ns("head"))
                estimates.append(generation_estimate(*times))
                times = (generation.running_ns("base"), generation.running_ns("head"))
                running.append(generation_estimate(*times))
                data.outcome = decision = decide(estimates, gate.min_effect, gate.tolerance, looks)
                tell(decision)
                if decision.finding is not Finding.GO_ON:
                    break
    except ArmLostError as lost:
        data.outcome, data.status = Lost(lost.reason, str(lost)), lost.outcome.status
    else:
        moved = decision.finding in (Finding.SLOWER, Finding.FASTER)
        held_back = starvation(estimates, running, gate.min_effect, moved=moved)
        if held_back is not None:
            side = "head" if held_back > 0 else "base"
            text = f"waiting for a processor made the {side} slower by {percent(abs(held_back))}"
            data.outcome = Lost("starved", text)
    data.seconds = time.monotonic() - started
    return data


def arms_of(pair: Pair, base: OpenSide, head: OpenSide) -> MakeArm:
    """Real workers for both sides of a pair."""
    sides: dict[Side, tuple[OpenSide, Prepared]] = {
        "base": (base, pair.base),
        "head": (head, pair.head),
    }

    def make(side: Side) -> WorkerArm:
        opened_side, prepared = sides[side]
        return WorkerArm(
            ArmSpec(
                side,
                hold_request(prepared, opened_side.suite.measure),
                timeout_seconds=opened_side.suite.measure.timeout_seconds,
                python=opened_side.python,
                path=opened_side.path,
            )
        )

    return make


def hold_request(prepared: Prepared, measure: Measure) -> HoldRequest:
    """What an arm is told to hold."""
    backend = prepared.case.backend
    return HoldRequest(
        prepared.case,
        Path(prepared.artifact),
        Path(prepared.reference),
        device=device_of(BACKENDS.get(backend.name), dict(backend.options)),
        seed=measure.seed,
        warmup_seconds=min(measure.warmup_seconds, WARMUP_SECONDS),
    )
