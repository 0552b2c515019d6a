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
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from cspbench.core.statuses import ExitCode
from cspbench.errors import InputError
from cspbench.gating.calibration import Injected, beside_seconds, injected, until_known
from cspbench.gating.decide import Decision, Finding
from cspbench.gating.duet import Block, MakeArm, Side
from cspbench.gating.measure import CaseData, load_request, measure_case, works_alone
from cspbench.gating.power import smallest_effect
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.gating.sensitivity import Sensitivity
from cspbench.gating.verdict import percent
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

#: Injected slowdowns, in this order. The same code against itself comes most often.
SHARES = (0.0, 0.05, 0.0, 0.10, 0.0, 0.03)


@dataclass
class SelfTest:
    """Outcomes by injected share."""

    case: str
    gate: Gate
    outcomes: list[tuple[float, CaseData]] = field(default_factory=list)
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
                "slower": sum(_finding(data) is Finding.SLOWER for data in gates),
                "found": ", ".join(_outcome_text(data) for data in gates),
                "seconds": f"{median(map(_seconds, gates)):.0f}",
            }
            for share in sorted({share for share, _ in self.outcomes})
            if (gates := [data for other, data in self.outcomes if other == share])
        ]

    def injected(self, share: float) -> Injected:
        """How much longer an inference with this share of extra work takes, over all its gates."""
        running = all(data.of == RUNNING for _, data in self.outcomes)
        return injected(share, self.calibrations.get(share, ()), running=running)

    @property
    def inference_ms(self) -> float | None:
        """Median time of an inference without extra work; None if nothing was measured."""
        times = [
            ns for _, data in self.outcomes for block in data.blocks
            for ns in block.inference_ns("base")
        ]  # fmt: skip
        return median(times) / 1e6 if times else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of one block, as a log-ratio; None if nothing was measured."""
        variances = [
            deviation(data.estimates) ** 2 for _, data in self.outcomes if len(data.blocks) >= 2
        ]
        return math.sqrt(fmean(variances)) if variances else None

    @cached_property
    def smallest_effect(self) -> float | None:
        """Slowdown, as a share, that the gate confirms in 95 % of gates with this spread."""
        return None if self.spread is None else smallest_effect(self.spread, self.gate)

    @property
    def false_alarms(self) -> int:
        """How often the same code was called slower or faster."""
        return sum(
            _finding(data) in (Finding.SLOWER, Finding.FASTER)
            for share, data in self.outcomes
            if share == 0
        )

    @property
    def sensitivity(self) -> Sensitivity | None:
        """What later gates on this machine may say of themselves; None if nothing was measured."""
        if self.smallest_effect is None:
            return None
        seconds = median(_seconds(data) for _, data in self.outcomes)
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Sensitivity(self.case, self.smallest_effect, seconds, created)

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
        each = median(_seconds(data) for _, data in self.outcomes)
        lines.append(
            f"time: {each:.0f} s a case (median), {self.seconds:.0f} s for this test, which also "
            "measures the size of what it injects"
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
            "gates": [
                {
                    "injected": share,
                    **_sizes(self.injected(share)),
                    "finding": str(_finding(data)),
                    "estimate": math.expm1(data.outcome.estimate)
                    if isinstance(data.outcome, Decision) else None,
                    "generations": len(data.blocks),
                    "seconds": _seconds(data),
                }
                for share, data in self.outcomes
            ],
        }  # fmt: skip


def _seconds(data: CaseData) -> float:
    """What a gate would have taken, which measures no size of extra work."""
    return max(0.0, data.seconds - beside_seconds(data.blocks))


def _sizes(size: Injected) -> dict[str, float | None]:
    return {"injected_seen": size.seen, "injected_low": size.low, "injected_high": size.high}


def _finding(data: CaseData) -> Finding | str:
    return data.outcome.finding if isinstance(data.outcome, Decision) else "unmeasured"


def _outcome_text(data: CaseData) -> str:
    if isinstance(data.outcome, Decision):
        return f"{data.outcome.finding} {percent(data.outcome.estimate)}"
    return f"unmeasured: {data.outcome.text}"


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
    file: Path, only: Sequence[str], report: StepReport, *, allow_code: bool = False
) -> SelfTest:
    """Run the gates of SHARES on the quickest case of a suite.

    Raises:
        InputError: no case can run on this machine.
    """
    with allowing_code(allow_code):
        suite = load_suite(file)
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
        data = measure_case(make, result.gate, one_thread=result.one_thread)
        result.outcomes.append((share, data))
        report(f"{share * 100:g} % injected: {_outcome_text(data)}, {data.seconds:.0f} s")
        if share:
            blocks = [*result.calibrations.get(share, ()), *data.blocks]
            running = data.of == RUNNING
            result.calibrations[share] = until_known(share, blocks, make, running=running)
        result.seconds = time.monotonic() - started
