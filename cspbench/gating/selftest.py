"""The self-test: which slowdowns the gate detects on this machine, and how long that takes.

The base is a case. The head is the same case, alone or with real extra work of a known share of an
inference. The amount of extra work is first guessed, by timing it in turn with inferences, and then
corrected by the slowdowns that a few blocks with it show.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from cspbench.core.statuses import ExitCode
from cspbench.errors import InputError
from cspbench.gating.decide import Decision, Finding
from cspbench.gating.duet import MakeArm, Side, measure_blocks
from cspbench.gating.measure import CaseData, elapsed_estimate, load_request, measure_case
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.gating.verdict import Unmeasured, percent
from cspbench.machine.lock import timing_lock
from cspbench.measure.statistics import deviation
from cspbench.models.code import allowing_code
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.interleaved import ArmLostError, ArmSpec, Loaded, WorkerArm
from cspbench.runner.plan import plan_suite
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Gate, Measure, Suite

if TYPE_CHECKING:
    from cspbench.gating.job import StepReport

#: Injected slowdowns, in this order. The same code against itself comes most often.
SHARES = (0.0, 0.05, 0.0, 0.10, 0.0, 0.03)
#: Shares of guessed extra work by which the guess is corrected, and the blocks of each.
CHECKED_SHARES = (0.03, 0.10)
CHECK_BLOCKS = 4
#: Largest standard error of these blocks, as a share, with which they correct the guess.
MAX_CHECK_ERROR = 0.01


@dataclass
class SelfTest:
    """Outcomes by injected share.

    ``seen`` are the slowdowns that CHECKED_SHARES of the guessed extra work showed, and
    ``seen_error`` is their standard error. They are empty and None without a check.
    """

    case: str
    gate: Gate
    inference_ms: float | None = None
    units_per_inference: float | None = None
    seen: tuple[float, ...] = ()
    seen_error: float | None = None
    outcomes: list[tuple[float, CaseData]] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """One row an injected share."""
        return [
            {
                "injected": f"{share * 100:g} %",
                "gates": len(gates),
                "slower": sum(_finding(data) is Finding.SLOWER for data in gates),
                "found": ", ".join(_outcome_text(data) for data in gates),
                "seconds": f"{median(data.seconds for data in gates):.0f}",
            }
            for share in sorted({share for share, _ in self.outcomes})
            if (gates := [data for other, data in self.outcomes if other == share])
        ]

    @property
    def spread(self) -> float | None:
        """Standard deviation of one block, as a log-ratio; None if nothing was measured."""
        variances = [
            deviation(data.estimates) ** 2 for _, data in self.outcomes if len(data.blocks) >= 2
        ]
        return math.sqrt(fmean(variances)) if variances else None

    @property
    def smallest_effect(self) -> float | None:
        """Slowdown that eight blocks of this spread detect with probability 95 %, as a share.

        The bound at eight blocks lies t(0.992; 7) = 3.13 standard errors below the estimate, and
        95 % of estimates lie above the true slowdown less 1.9 standard errors. The estimate must
        also reach ``min_effect``.
        """
        if self.spread is None:
            return None
        error = self.spread / math.sqrt(8)
        return math.expm1(
            max((3.13 + 1.9) * error, math.log1p(self.gate.min_effect) + 1.65 * error)
        )

    @property
    def false_alarms(self) -> int:
        """How often the same code was called slower or faster."""
        return sum(
            _finding(data) in (Finding.SLOWER, Finding.FASTER)
            for share, data in self.outcomes
            if share == 0
        )

    @property
    def exit_code(self) -> ExitCode:
        """3 if a gate could not be measured, else 0: a self-test passes no verdict on a case."""
        lost = any(not isinstance(data.outcome, Decision) for _, data in self.outcomes)
        return ExitCode.NOT_MEASURED if lost else ExitCode.OK

    def sentences(self) -> list[str]:
        """The results in sentences."""
        same = sum(share == 0 for share, _ in self.outcomes)
        time_text = (
            "" if self.inference_ms is None else f", {self.inference_ms:.2f} ms an inference"
        )
        lines = [
            f"{self.case}{time_text}",
            *self._injection(),
            (
                f"false alarms: {self.false_alarms} of {same} (so few gates show gross faults "
                "only; docs/gate.md has a campaign)"
            ),
        ]
        if self.spread is not None and self.smallest_effect is not None:
            lines.append(
                f"one block scatters by {self.spread * 100:.1f} %: with this noise the gate finds "
                f"a slowdown of {self.smallest_effect * 100:.1f} % 19 times in 20"
            )
        total = sum(data.seconds for _, data in self.outcomes)
        each = median(data.seconds for _, data in self.outcomes)
        lines.append(f"time: {each:.0f} s a case (median), {total:.0f} s for this test")
        return lines

    def _injection(self) -> list[str]:
        """The precision of the injected slowdowns."""
        if self.seen_error is None:
            return []
        if self.seen_error > MAX_CHECK_ERROR:
            return ["the injected slowdowns are guesses: this machine is too noisy to check them"]
        error = 200 * self.seen_error
        return [f"the injected slowdowns are exact to within ± {error:.1f} % of an inference"]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--format json`` prints."""
        return {
            "case": self.case,
            "inference_ms": self.inference_ms,
            "units_per_inference": self.units_per_inference,
            "check": {"guessed": CHECKED_SHARES, "seen": self.seen, "error": self.seen_error},
            "false_alarms": self.false_alarms,
            "generation_sd": self.spread,
            "smallest_effect": self.smallest_effect,
            "gates": [
                {
                    "injected": share,
                    "finding": str(_finding(data)),
                    "estimate": math.expm1(data.outcome.estimate)
                    if isinstance(data.outcome, Decision) else None,
                    "generations": len(data.blocks),
                    "seconds": data.seconds,
                }
                for share, data in self.outcomes
            ],
        }  # fmt: skip


def _finding(data: CaseData) -> Finding | str:
    return data.outcome.finding if isinstance(data.outcome, Decision) else "unmeasured"


def _outcome_text(data: CaseData) -> str:
    if isinstance(data.outcome, Decision):
        return f"{data.outcome.finding} {percent(data.outcome.estimate)}"
    return f"unmeasured: {data.outcome.text}"


@dataclass(frozen=True)
class Injection:
    """A prepared case and the cost of extra work beside it.

    ``fixed_share`` is the cost of any amount of extra work, as a share of an inference.
    """

    prepared: Prepared
    measure: Measure
    inference_ns: float
    units_per_inference: float
    fixed_share: float = 0.0

    def units(self, share: float) -> float:
        """Units of extra work after each inference that add ``share`` to its time."""
        return max(0.0, share - self.fixed_share) * self.units_per_inference

    def arms(self, share: float) -> MakeArm:
        """Make arms: the base runs the case, the head the same with extra work."""

        def make(side: Side) -> WorkerArm:
            units = self.units(share) if side == "head" and share else 0.0
            request = load_request(self.prepared, self.measure)
            return WorkerArm(ArmSpec(side, replace(request, clock="host", extra_units=units)))

        return make


def guess_injection(prepared: Prepared, measure: Measure, times: int = 3) -> Injection:
    """Guess the amount of extra work: medians over fresh processes.

    Raises:
        ArmLostError: a worker cannot load the case.
    """
    loaded = []
    for _ in range(times):
        request = replace(load_request(prepared, measure), calibrate=True)
        arm = WorkerArm(ArmSpec("head", request))
        with contextlib.closing(arm):
            arm.start()
            loaded.append(arm.load())
    return Injection(
        prepared,
        measure,
        median(arm.inference_ns for arm in loaded),
        median(_units(arm) for arm in loaded),
    )


def _units(arm: Loaded) -> float:
    """Units of extra work that take as long as an inference; the arm was asked to calibrate."""
    assert arm.result is not None
    assert arm.result.units_per_inference is not None
    return arm.result.units_per_inference


def corrected(guess: Injection, seen: Sequence[float], error: float) -> Injection:
    """Correct the guess by the slowdowns ``seen`` at CHECKED_SHARES.

    The guess times units in a row. Between inferences a unit reads its data from slower caches, and
    the first unit its code as well. The cost is therefore a line with a fixed part, and two points
    determine it. A check with a large ``error`` (a share) corrects nothing.
    """
    if error > MAX_CHECK_ERROR:
        return guess
    low, high = CHECKED_SHARES
    slope = min(max((seen[1] - seen[0]) / (high - low), 0.25), 4.0)
    fixed = min(max(seen[0] - slope * low, 0.0), 0.05)
    units = guess.units_per_inference / slope
    return replace(guess, units_per_inference=units, fixed_share=fixed)


def quickest_case(suite: Suite, only: Sequence[str], executor: Executor) -> Prepared:
    """The runnable case of a suite with the fewest MACs.

    Raises:
        InputError: no case can run on this machine.
    """
    prepared = prepare_cases(plan_suite(suite, only), executor)
    ready = [case for case in prepared if case.status is None]
    if not ready:
        raise InputError(f"no case of {suite.name!r} can run on this machine")
    return min(
        ready, key=lambda c: c.analysis.totals["macs"] * c.case.batch if c.analysis else math.inf
    )


def run_self_test(
    file: Path, only: Sequence[str], report: StepReport, *, allow_code: bool = False
) -> SelfTest:
    """Run the gates of SHARES on the quickest case of a suite.

    Raises:
        InputError: no case can run on this machine.
    """
    with allowing_code(allow_code):
        suite = load_suite(file)
        case = quickest_case(suite, only, LocalExecutor(allow_code=allow_code))
    result = SelfTest(case.id, suite.gate)
    with timing_lock(f"self-test of the gate, {case.id}", waiting=report):
        try:
            report(f"calibrating {case.id}")
            arms = calibrate(result, guess_injection(case, suite.measure))
        except ArmLostError as lost:
            result.outcomes.append((0.0, CaseData(Unmeasured(lost.reason, str(lost)))))
        else:
            run_gates(result, arms, report, SHARES)
    return result


def calibrate(result: SelfTest, guess: Injection) -> Callable[[float], MakeArm]:
    """Check the guess by a few blocks, and return the function that makes the arms of a share.

    Raises:
        ArmLostError: an arm was lost.
    """
    checks = [_estimates(guess.arms(share), CHECK_BLOCKS) for share in CHECKED_SHARES]
    result.seen = tuple(math.expm1(fmean(estimates)) for estimates in checks)
    variance = fmean(deviation(estimates) ** 2 for estimates in checks)
    result.seen_error = math.sqrt(variance / CHECK_BLOCKS)
    injection = corrected(guess, result.seen, result.seen_error)
    result.inference_ms = injection.inference_ns / 1e6
    result.units_per_inference = injection.units_per_inference
    return injection.arms


def _estimates(make_arm: MakeArm, count: int) -> list[float]:
    with contextlib.closing(measure_blocks(make_arm)) as stream:  # type: ignore[type-var]
        return [elapsed_estimate(block) for block in itertools.islice(stream, count)]


def run_gates(
    result: SelfTest,
    arms: Callable[[float], MakeArm],
    report: StepReport,
    shares: Sequence[float],
) -> None:
    """Run one gate for each share and add its outcome to ``result``."""
    for share in shares:
        data = measure_case(arms(share), result.gate)
        result.outcomes.append((share, data))
        report(f"{share * 100:g} % injected: {_outcome_text(data)}, {data.seconds:.0f} s")
