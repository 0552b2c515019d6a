"""What can the gate see on this machine, and what does it cost? Asked of the machine itself.

Arm against the same arm, and against the same arm with real extra work of a known share of an
inference. The extra work is first guessed, by timing it in turn with inferences, and then corrected
by what a few generations of it really show.
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
from cspbench.gating.decide import Decision, Finding, generation_estimate, stdev
from cspbench.gating.measure import CaseData, hold_request, measure_case
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.gating.verdict import Lost, percent
from cspbench.machine.lock import timing_lock
from cspbench.models.code import allowing_code
from cspbench.runner.duet import ArmLostError, ArmSpec, MakeArm, Side, WorkerArm, generations
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Gate, Measure, Suite

if TYPE_CHECKING:
    from cspbench.gating.job import Told

#: Injected slowdowns, in this order; the same code against itself is asked most often.
SHARES = (0.0, 0.05, 0.0, 0.10, 0.0, 0.03)
#: Shares of guessed extra work by which the guess is corrected, and in how many generations each.
CHECKED_SHARES = (0.03, 0.10)
CHECK_GENERATIONS = 4
#: Standard error of what they showed, as a share, above which it corrects nothing.
SURE = 0.01


@dataclass
class SelfTest:
    """Outcomes by injected share.

    ``seen`` are the slowdowns that CHECKED_SHARES of the guessed extra work showed, with their
    standard error ``seen_error``; empty and None if it was not tried.
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
                "gates": len(found),
                "slower": sum(_finding(data) is Finding.SLOWER for data in found),
                "found": ", ".join(_told(data) for data in found),
                "seconds": f"{median(data.seconds for data in found):.0f}",
            }
            for share, found in sorted(self._by_share().items())
        ]

    def _by_share(self) -> dict[float, list[CaseData]]:
        found: dict[float, list[CaseData]] = {}
        for share, data in self.outcomes:
            found.setdefault(share, []).append(data)
        return found

    @property
    def spread(self) -> float | None:
        """Standard deviation of one generation, as a log-ratio; None if nothing was measured."""
        parts = []
        for _, data in self.outcomes:
            estimates = [
                generation_estimate(g.inference_ns("base"), g.inference_ns("head"))
                for g in data.generations
            ]
            if len(estimates) >= 2:
                parts.append(stdev(estimates) ** 2)
        return math.sqrt(sum(parts) / len(parts)) if parts else None

    @property
    def smallest_effect(self) -> float | None:
        """Slowdown that eight generations of this spread reveal with probability 95 %, as a share.

        The bound at eight generations lies t(0.992; 7) = 3.13 standard errors below the estimate;
        1.9 more leave 95 % of estimates above it, and the estimate must reach ``min_effect``.
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
        """3 if a gate could not be measured; a self-test judges nobody."""
        lost = any(not isinstance(data.outcome, Decision) for _, data in self.outcomes)
        return ExitCode.NOT_MEASURED if lost else ExitCode.OK

    def sentences(self) -> list[str]:
        """What it means."""
        same = sum(share == 0 for share, _ in self.outcomes)
        time_text = (
            "" if self.inference_ms is None else f", {self.inference_ms:.2f} ms an inference"
        )
        lines = [
            f"{self.case}{time_text}",
            *self._injection(),
            (
                f"false alarms: {self.false_alarms} of {same} (so few gates show only gross "
                "trouble; docs/gate.md has a campaign)"
            ),
        ]
        if self.spread is not None and self.smallest_effect is not None:
            lines.append(
                f"one generation scatters by {self.spread * 100:.1f} %: at this noise a slowdown "
                f"of {self.smallest_effect * 100:.1f} % is found 19 times in 20"
            )
        total = sum(data.seconds for _, data in self.outcomes)
        each = median(data.seconds for _, data in self.outcomes)
        lines.append(f"cost: {each:.0f} s a case (median), {total:.0f} s for this test")
        return lines

    def _injection(self) -> list[str]:
        """How sure the injected sizes are."""
        if self.seen_error is None:
            return []
        if self.seen_error > SURE:
            return ["the injected sizes are guesses: this machine is too noisy to check them"]
        return [
            f"the injected sizes hold to within ± {200 * self.seen_error:.1f} % of an inference"
        ]

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
                    "generations": len(data.generations),
                    "seconds": data.seconds,
                }
                for share, data in self.outcomes
            ],
        }  # fmt: skip


def _finding(data: CaseData) -> Finding | str:
    return data.outcome.finding if isinstance(data.outcome, Decision) else "unmeasured"


def _told(data: CaseData) -> str:
    if isinstance(data.outcome, Decision):
        return f"{data.outcome.finding} {percent(data.outcome.estimate)}"
    return f"unmeasured: {data.outcome.text}"


@dataclass(frozen=True)
class Probe:
    """A prepared case with what its extra work costs.

    ``fixed_share`` is what any extra work costs, as a share of an inference.
    """

    prepared: Prepared
    measure: Measure
    inference_ns: float
    units_per_inference: float
    fixed_share: float = 0.0

    def units(self, share: float) -> float:
        """Units of extra work for each inference that add ``share`` to its time."""
        return max(0.0, share - self.fixed_share) * self.units_per_inference

    def arms(self, share: float) -> MakeArm:
        """Base: the case; head: the same with extra work."""

        def make(side: Side) -> WorkerArm:
            units = self.units(share) if side == "head" and share else 0.0
            request = hold_request(self.prepared, self.measure)
            return WorkerArm(ArmSpec(side, replace(request, clock="host", extra_units=units)))

        return make


def probe(prepared: Prepared, measure: Measure, times: int = 3) -> Probe:
    """Guess the size of the extra work: medians over fresh processes.

    Raises:
        ArmLostError: a worker cannot hold the case.
    """
    found = []
    for _ in range(times):
        request = replace(hold_request(prepared, measure), calibrate=True)
        arm = WorkerArm(ArmSpec("head", request))
        with contextlib.closing(arm):
            arm.start()
            found.append(arm.hold())
    return Probe(
        prepared,
        measure,
        median(held.inference_ns for held in found),
        median(float(held.facts["units_per_inference"]) for held in found),
    )


def corrected(guess: Probe, seen: Sequence[float], error: float) -> Probe:
    """The guess as the slowdowns ``seen`` at CHECKED_SHARES correct it.

    The guess times units in a row. Between inferences a unit finds its data in slower caches, and
    the first one its code as well: cost is a line with a fixed part, and two points give it. A
    check that is itself unsure (``error``, as a share) corrects nothing.
    """
    if error > SURE:
        return guess
    low, high = CHECKED_SHARES
    slope = min(max((seen[1] - seen[0]) / (high - low), 0.25), 4.0)
    fixed = min(max(seen[0] - slope * low, 0.0), 0.05)
    units = guess.units_per_inference / slope
    return replace(guess, units_per_inference=units, fixed_share=fixed)


def quickest_case(suite: Suite, only: Sequence[str], executor: Executor) -> Prepared:
    """The runnable case of a suite with the fewest MACs.

    Raises:
        InputError: none can run here.
    """
    prepared = prepare_cases(plan_suite(suite, only), executor)
    ready = [case for case in prepared if case.status is None]
    if not ready:
        raise InputError(f"no case of {suite.name!r} can run on this machine")
    return min(
        ready, key=lambda c: c.analysis.totals["macs"] * c.case.batch if c.analysis else math.inf
    )


def run_self_test(
    file: Path, only: Sequence[str], tell: Told, *, allow_code: bool = False
) -> SelfTest:
    """Run the gates of SHARES on the quickest case of a suite.

    Raises:
        InputError: no case can run here.
    """
    with allowing_code(allow_code):
        suite = load_suite(file)
        case = quickest_case(suite, only, LocalExecutor(allow_code=allow_code))
    result = SelfTest(case.id, suite.gate)
    with timing_lock(f"self-test of the gate, {case.id}", waiting=tell):
        try:
            tell(f"calibrating {case.id}")
            arms = calibrate(result, probe(case, suite.measure))
        except ArmLostError as lost:
            result.outcomes.append((0.0, CaseData(Lost(lost.reason, str(lost)))))
        else:
            run_gates(result, arms, tell, SHARES)
    return result


def calibrate(result: SelfTest, guess: Probe) -> Callable[[float], MakeArm]:
    """Check the guess by a few generations; return what makes the arms of a share.

    Raises:
        ArmLostError: an arm was lost.
    """
    found = [_estimates(guess.arms(share), CHECK_GENERATIONS) for share in CHECKED_SHARES]
    result.seen = tuple(math.expm1(fmean(estimates)) for estimates in found)
    variance = fmean(stdev(estimates) ** 2 for estimates in found)
    result.seen_error = math.sqrt(variance / CHECK_GENERATIONS)
    probe_now = corrected(guess, result.seen, result.seen_error)
    result.inference_ms = probe_now.inference_ns / 1e6
    result.units_per_inference = probe_now.units_per_inference
    return probe_now.arms


def _estimates(make_arm: MakeArm, count: int) -> list[float]:
    with contextlib.closing(generations(make_arm)) as stream:  # type: ignore[type-var]
        return [
            generation_estimate(g.inference_ns("base"), g.inference_ns("head"))
            for g in itertools.islice(stream, count)
        ]


def run_gates(
    result: SelfTest,
    arms: Callable[[float], MakeArm],
    tell: Told,
    shares: Sequence[float],
) -> None:
    """Run one gate for each share and keep what came of it in ``result``."""
    for share in shares:
        data = measure_case(arms(share), result.gate)
        result.outcomes.append((share, data))
        tell(f"{share * 100:g} % injected: {_told(data)}, {data.seconds:.0f} s")
