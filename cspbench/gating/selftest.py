"""The self-test: which slowdowns the gate detects on this machine, and how long that takes.

The base is a case. The head is the same case, alone or with extra work: after each inference its
thread, or the device, stays busy for a known share of the time that the inference took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from cspbench.core.statuses import ExitCode
from cspbench.errors import InputError
from cspbench.gating.calibration import Injected, beside_seconds, injected, until_known
from cspbench.gating.decide import Decision
from cspbench.gating.duet import Block, MakeArm, Side
from cspbench.gating.measure import CaseData, load_request, measure_case, works_alone
from cspbench.gating.power import smallest_effect
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.gating.sensitivity import Sensitivity
from cspbench.gating.timing import measured_case
from cspbench.gating.verdict import CaseVerdict, Verdict, judge, percent
from cspbench.machine.lock import timing_lock
from cspbench.measure.statistics import deviation
from cspbench.models.code import allowing_code
from cspbench.runner.arms import ArmSpec, WorkerArm
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.store.blocks import RUNNING
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Gate, Measure, Suite

if TYPE_CHECKING:
    from cspbench.gating.job import StepReport

#: Extra work so many times the effect that 19 of 20 gates find is found by all.
SURELY = 1.5
#: Injected slowdowns, in this order. The same code against itself comes most often.
SHARES = (0.0, 0.05, 0.0, 0.10, 0.0, 0.03)


@dataclass
class Trial:
    """One gate of the case, as `timing` runs it: again from scratch if it was found to move."""

    first: CaseData
    second: CaseData | None = None

    @property
    def last(self) -> CaseData:
        """The measurement that counts."""
        return self.second or self.first

    @property
    def runs(self) -> list[CaseData]:
        """All measurements."""
        return [self.first] if self.second is None else [self.first, self.second]

    @property
    def blocks(self) -> list[Block]:
        """Of all measurements."""
        return [block for run in self.runs for block in run.blocks]

    @property
    def seconds(self) -> float:
        """What a gate would have taken, which measures no size of extra work."""
        return sum(max(0.0, run.seconds - beside_seconds(run.blocks)) for run in self.runs)

    def verdict(self, gate: Gate) -> CaseVerdict:
        """As the gate judges a single case without a null case."""
        case = measured_case("the case", self.first, self.second)
        (verdict,) = judge([case], None, gate.min_effect, gate.tolerance)
        return verdict


@dataclass
class SelfTest:
    """Outcomes by injected share."""

    case: str
    gate: Gate
    outcomes: list[tuple[float, Trial]] = field(default_factory=list)
    #: Blocks by injected share, in which its size was measured.
    calibrations: dict[float, list[Block]] = field(default_factory=dict)
    #: One thread on a processor: running time decides.
    one_thread: bool = False
    #: How long all of it took.
    seconds: float = 0.0

    def rows(self) -> list[dict[str, Any]]:
        """One row an injected share."""
        return [
            {
                "injected": self.injected(share).text,
                "gates": len(gates),
                "slower": sum(self._is(trial, Verdict.SLOWER) for trial in gates),
                "found": ", ".join(map(self.outcome_text, gates)),
                "seconds": f"{median(trial.seconds for trial in gates):.0f}",
            }
            for share in sorted({share for share, _ in self.outcomes})
            if (gates := [trial for other, trial in self.outcomes if other == share])
        ]

    def injected(self, share: float) -> Injected:
        """How much longer an inference with this share of extra work takes, over all its gates."""
        running = all(trial.last.of == RUNNING for _, trial in self.outcomes)
        return injected(share, self.calibrations.get(share, ()), running=running)

    @property
    def inference_ms(self) -> float | None:
        """Median time of an inference without extra work; None if nothing was measured."""
        times = [
            ns for _, trial in self.outcomes for block in trial.blocks
            for ns in block.inference_ns("base")
        ]  # fmt: skip
        return median(times) / 1e6 if times else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of one block, as a log-ratio; None if nothing was measured."""
        runs = [run.estimates for _, trial in self.outcomes for run in trial.runs if run.blocks]
        # Those that ended early did so because their blocks scattered little: each block counts.
        freedom = sum(len(run) - 1 for run in runs)
        squares = math.fsum((len(run) - 1) * deviation(run) ** 2 for run in runs if len(run) > 1)
        return math.sqrt(squares / freedom) if freedom else None

    @cached_property
    def smallest_effect(self) -> float | None:
        """Slowdown, as a share, that the gate confirms in 95 % of gates with this spread."""
        return None if self.spread is None else smallest_effect(self.spread, self.gate)

    @property
    def false_alarms(self) -> int:
        """How often the same code was called slower or faster."""
        return sum(
            self._is(trial, Verdict.SLOWER) or self._is(trial, Verdict.FASTER)
            for share, trial in self.outcomes
            if share == 0
        )

    @property
    def case_seconds(self) -> float:
        """What a gate of this case takes: median over all shares."""
        return median(trial.seconds for _, trial in self.outcomes)

    @property
    def sensitivity(self) -> Sensitivity | None:
        """What later gates on this machine may say of themselves; None with a reason not to."""
        if self.smallest_effect is None or self.doubt:
            return None
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        gate = self.gate
        return Sensitivity(
            self.case, self.smallest_effect, self.case_seconds, created, gate.min_effect,
            gate.tolerance,
        )  # fmt: skip

    @property
    def doubt(self) -> str:
        """Why the smallest effect is not to be relied on; empty if nothing speaks against it."""
        if self.exit_code is not ExitCode.OK:
            return "a gate of the self-test could not be measured"
        if self.false_alarms:
            return "the same code was called slower or faster"
        for share, trial in self.outcomes:
            low, found = self.injected(share).low, self._is(trial, Verdict.SLOWER)
            surely = SURELY * (self.smallest_effect or math.inf)
            if not found and low is not None and low >= surely:
                return f"extra work of {share * 100:g} % was not found"
        return ""

    @property
    def exit_code(self) -> ExitCode:
        """3 if a gate could not be measured, else 0: a self-test passes no verdict on a case."""
        lost = any(not isinstance(trial.last.outcome, Decision) for _, trial in self.outcomes)
        return ExitCode.NOT_MEASURED if lost else ExitCode.OK

    def _is(self, trial: Trial, verdict: Verdict) -> bool:
        return trial.verdict(self.gate).verdict is verdict

    def outcome_text(self, trial: Trial) -> str:
        """``slower +3.1 %``."""
        outcome, verdict = trial.last.outcome, trial.verdict(self.gate)
        if isinstance(outcome, Decision):
            return f"{verdict.verdict} {percent(outcome.estimate)}"
        return f"unmeasured: {outcome.text}"

    def sentences(self) -> list[str]:
        """The results in sentences."""
        same = sum(share == 0 for share, _ in self.outcomes)
        time_text = (
            "" if self.inference_ms is None else f", {self.inference_ms:.2f} ms an inference"
        )
        lines = [
            f"{self.case}{time_text}",
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
        lines.append(
            f"time: {self.case_seconds:.0f} s a case (median), {self.seconds:.0f} s for this test, "
            "which also measures the size of what it injects"
        )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--format json`` prints."""
        return {
            "case": self.case,
            "inference_ms": self.inference_ms,
            "false_alarms": self.false_alarms,
            "generation_sd": self.spread,
            "smallest_effect": self.smallest_effect,
            "case_seconds": self.case_seconds,
            "seconds": self.seconds,
            "doubt": self.doubt,
            "gates": [
                {
                    "injected": share,
                    **_sizes(self.injected(share)),
                    "verdict": str(trial.verdict(self.gate).verdict),
                    "estimate": math.expm1(trial.last.outcome.estimate)
                    if isinstance(trial.last.outcome, Decision) else None,
                    "generations": len(trial.blocks),
                    "seconds": trial.seconds,
                }
                for share, trial in self.outcomes
            ],
        }  # fmt: skip


def _sizes(size: Injected) -> dict[str, Any]:
    return {"injected_seen": size.seen, "injected_low": size.low, "injected_high": size.high,
            "injected_is_known": size.is_known}  # fmt: skip


def whole_gate(make: MakeArm, gate: Gate, *, one_thread: bool) -> Trial:
    """Measure a case, and again from scratch if it was found to move."""
    trial = Trial(measure_case(make, gate, one_thread=one_thread))
    moved = trial.first.moved
    if moved is not None:
        trial.second = measure_case(make, gate, one_thread=one_thread, earlier=moved)
    return trial


def planted_arms(
    prepared: Prepared, measure: Measure, share: float, *, calibrated: bool = False
) -> MakeArm:
    """Make arms: the base runs the case, the head the same with a share of extra work.

    ``calibrated`` arms also take bursts without it, which say how large it is; both sides do, so
    that what runs before a burst is alike.
    """
    request = replace(load_request(prepared, measure), calibrated=calibrated)

    def make(side: Side) -> WorkerArm:
        extra = share if side == "head" else 0.0
        return WorkerArm(ArmSpec(side, replace(request, extra_share=extra)))

    return make


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
    file: Path,
    only: Sequence[str],
    report: StepReport,
    *,
    content: bytes | None = None,
    allow_code: bool = False,
) -> SelfTest:
    """Run the gates of SHARES on the quickest case of a suite.

    ``content`` is the text of a suite that is no file.

    Raises:
        InputError: no case can run on this machine.
    """
    with allowing_code(allow_code):
        suite = load_suite(file, content=content)
        case = quickest_case(suite, only, LocalExecutor(allow_code=allow_code))
    result = SelfTest(case.id, suite.gate, one_thread=works_alone(case.case))
    with timing_lock(f"self-test of the gate, {case.id}", waiting=report):
        run_gates(
            result, partial(planted_arms, case, suite.measure, calibrated=True), report, SHARES
        )
    return result


def run_gates(
    result: SelfTest,
    arms: Callable[[float], MakeArm],
    report: StepReport,
    shares: Sequence[float],
) -> None:
    """Run one gate for each share and add its outcome to ``result``."""
    started = time.monotonic()
    for share in shares:
        make = arms(share)
        trial = whole_gate(make, result.gate, one_thread=result.one_thread)
        result.outcomes.append((share, trial))
        text = result.outcome_text(trial)
        work = f"extra work, meant to be {share * 100:g} %" if share else "no extra work"
        report(f"{work}: {text}, {trial.seconds:.0f} s")
        if share:
            blocks = [*result.calibrations.get(share, ()), *trial.blocks]
            running = trial.last.of == RUNNING
            result.calibrations[share] = until_known(share, blocks, make, running=running)
        result.seconds = time.monotonic() - started
