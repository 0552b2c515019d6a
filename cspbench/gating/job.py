"""One gate from beginning to end: static comparison, null case, duets, confirmation, verdicts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cspbench.backends.spec import libraries
from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.errors import InputError
from cspbench.gating.decide import LOOKS, Decision, Finding, Look
from cspbench.gating.environments import with_environments
from cspbench.gating.measure import CaseData, arms_of, measure_case
from cspbench.gating.measured import MeasuredChange, measure_rules, measured_rules, with_measured
from cspbench.gating.prepare import Pair, not_here, pair_cases, runnable
from cspbench.gating.report import GateReport, Skipped, raw
from cspbench.gating.sides import OpenSide, SideRequest, opened
from cspbench.gating.static import StaticChange, compare_static, unknown_rules
from cspbench.gating.verdict import (
    CaseVerdict,
    Lost,
    Measured,
    Verdict,
    common_cause,
    judge,
    percent,
)
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock
from cspbench.runner.duet import PAIRS, ArmLostError, MakeArm, Side

NULL = "the base against itself"


#: Gets a sentence for each step of a gate.
Told = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a gate is to be run.

    ``static`` False leaves the static comparison out of the decision; ``keep_going`` measures the
    other cases although the static gate has blocked one; ``measure_identical`` measures cases whose
    artifact, settings and environment are the same on both sides of a git comparison; ``looks``
    and ``pairs`` (burst pairs in a generation) are the schedule, ``only`` patterns of case ids;
    ``allow_code`` is leave to run code that a model brings; ``results`` is where a side that is
    measured to be compared with a stored run is kept.
    """

    strict: bool = False
    static: bool = True
    keep_going: bool = False
    measure_identical: bool = False
    looks: Sequence[Look] = LOOKS
    pairs: int = PAIRS
    only: Sequence[str] = ()
    allow_code: bool = False
    results: Path = Path("results")


def run_gate(
    suite: Path,
    base: SideRequest,
    head: SideRequest,
    settings: Settings,
    tell: Told = lambda _text: None,
    arms: Callable[[Pair, OpenSide, OpenSide], MakeArm] = arms_of,
) -> GateReport:
    """Compare two sides that can be measured now.

    Args:
        suite: the suite's file in the working tree.
        base: the side to compare with.
        head: the side to judge.
        settings: how.
        tell: is told what happens, a line at a time.
        arms: makes the arms of a pair.

    Raises:
        InputError: a side cannot be had, or no case is on both sides.
    """
    started = time.monotonic()
    notes: list[str] = []
    if "git" in (base.kind, head.kind):
        base, head, notes = with_environments(suite, base, head, tell)
    with contextlib.ExitStack() as stack:
        sides = []
        for side, other in ((base, head), (head, base)):
            tell(f"preparing {side.text}")
            alone = other.kind == "git" and side.kind != "git"
            sides.append(
                stack.enter_context(
                    opened(side, suite, settings.only, alone=alone, allow_code=settings.allow_code)
                )
            )
        job = _Job(sides[0], sides[1], settings, tell, arms)
        job.report.notes += notes
        stack.enter_context(timing_lock(f"gate of {suite.name}", waiting=tell))
        job.run()
        job.report.seconds = time.monotonic() - started
        return job.report


class _Job:
    """A gate at work; what it finds gathers in ``report``."""

    def __init__(
        self,
        base: OpenSide,
        head: OpenSide,
        settings: Settings,
        tell: Told,
        arms: Callable[[Pair, OpenSide, OpenSide], MakeArm],
    ) -> None:
        self._base, self._head = base, head
        self._settings = settings
        self._tell = tell
        self._arms = arms
        self._gate = head.suite.gate
        self.report = GateReport(
            suite=head.suite.name,
            base=base.request.text,
            head=head.request.text,
            min_effect=self._gate.min_effect,
            tolerance=self._gate.tolerance,
            rules=dict(self._gate.rules),
            strict=settings.strict,
            facts={"base": base.facts, "head": head.facts},
            environment=fingerprint(libraries(), Path(head.suite.path).parent),
        )

    def run(self) -> None:
        """Do it all."""
        report = self.report
        loose = self._base.request.axes | self._head.request.axes
        pairs, notes = pair_cases(self._base.cases, self._head.cases, loose)
        report.notes += notes
        if not pairs:
            raise InputError(
                f"no case is on both sides: {self._base.request.text} has "
                f"{len(self._base.cases)}, {self._head.request.text} {len(self._head.cases)}"
            )
        if self._base.suite.gate != self._gate:
            report.notes.append("the sides have different gate rules: the head's were used")
        wanted = [pair for pair in pairs if self._can_be_measured(pair)]
        blocked = self._static_gate(pairs)
        wanted = [pair for pair in wanted if pair.name not in blocked]
        if blocked and not self._settings.keep_going:
            text = "not timed: the static gate had decided (--keep-going times it)"
            report.skipped += [Skipped(pair.name, "skipped", text) for pair in wanted]
            return
        self._measure([pair for pair in wanted if not self._identical(pair)])

    def _can_be_measured(self, pair: Pair) -> bool:
        """Settle the pairs of which a side is missing here."""
        if runnable(pair):
            return True
        missing = pair.head if pair.head.status is not None else pair.base
        if not_here(pair):
            self.report.skipped.append(Skipped(pair.name, str(missing.status), missing.reason))
            return False
        side = "head" if missing is pair.head else "base"
        one_side = missing.status in NOT_RUNNABLE
        reason = "one_side_only" if one_side else "arm_ended"
        text = f"the {side} is {missing.status}: {missing.reason}"
        self.report.verdicts.append(CaseVerdict(pair.name, Verdict.UNMEASURED, reason, text))
        return False

    def _static_gate(self, pairs: Sequence[Pair]) -> set[str]:
        """Compare what is known without running; return the names of blocked pairs."""
        rules = dict(self._gate.rules)
        blocked: dict[str, list[StaticChange]] = {}
        seen: dict[tuple[str, str], bool] = {}
        for pair in pairs:
            old, new = pair.base.analysis, pair.head.analysis
            if old is None or new is None:
                if rules:
                    self.report.notes.append(f"{pair.name} could not be analysed: not compared")
                continue
            models = (str(pair.base.case.model_id), str(pair.head.case.model_id))
            called = models[1] if models[0] == models[1] else " -> ".join(models)
            changes = compare_static(called, old, new, rules)
            unknown = unknown_rules(old, new, rules)
            if models not in seen:
                self.report.static += changes
                self.report.notes += [
                    f"{called}: {name} is not known of both sides: its rule was not checked"
                    for name in unknown
                ]
                seen[models] = True
            wrong = [change for change in changes if change.blocked]
            if wrong and self._settings.static:
                blocked[pair.name] = wrong
        for name, wrong in blocked.items():
            # The layers of the first metric: most often the same ones changed all of them.
            sentence = "; ".join([*(change.short for change in wrong), *wrong[0].layers])
            self.report.verdicts.append(CaseVerdict(name, Verdict.SLOWER, "static_rule", sentence))
        return set(blocked)

    def _identical(self, pair: Pair) -> bool:
        """Settle a pair of a git comparison whose sides run the same bytes in the same way."""
        same = (
            "git" in (self._base.request.kind, self._head.request.kind)
            and not self._settings.measure_identical
            and pair.base.digest == pair.head.digest
            and pair.base.id == pair.head.id
            and self._base.python == self._head.python
        )
        if same:
            text = "the same artifact, settings and environment on both sides: nothing to time"
            self.report.verdicts.append(CaseVerdict(pair.name, Verdict.SAME, "identical", text))
        return same

    def _measure(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        gate = self._gate
        measured: dict[str, Measured] = {}
        for number, pair in enumerate(pairs, start=1):
            case = self._case(pair, f"{number}/{len(pairs)}")
            if case is not None:
                measured[pair.name] = case
        null = self._null_case([pair for pair in pairs if _found(measured.get(pair.name))])
        cases = list(measured.values())
        self.report.verdicts += judge(cases, null, gate.min_effect, gate.tolerance)
        self._measured_rules([pair for pair in pairs if _found(measured.get(pair.name))])
        note = common_cause(cases, gate.min_effect)
        self.report.notes += [note] if note else []
        if any(made["schedule"] == "pairs" for raws in self.report.generations.values()
               for made in raws):  # fmt: skip
            self.report.notes.append(
                "some models did not fit beside each other and were measured by pairs of "
                "processes, which says less"
            )

    def _measured_rules(self, pairs: Sequence[Pair]) -> None:
        """Measure what the suite's other measured rules need."""
        limits = measured_rules(dict(self._gate.rules))
        if not limits:
            return
        changes: list[MeasuredChange] = []
        for pair in pairs:
            self._tell(f"{' and '.join(rule.name for rule, _ in limits)} of {pair.name}")
            for found in measure_rules(pair, self._base, self._head, limits):
                if isinstance(found, Lost):
                    text = f"{pair.name}: {found.text}: its rule was not checked"
                    self.report.notes.append(text)
                else:
                    changes.append(found)
        self.report.measured = changes
        self.report.verdicts = [with_measured(v, changes) for v in self.report.verdicts]

    def _null_case(self, pairs: Sequence[Pair]) -> Decision | Lost | None:
        """Measure the base of the cheapest case against itself; None if nothing was found."""
        if not pairs:
            return None
        base = min(pairs, key=_cost).base
        itself = Pair(NULL, base, base)
        data = self._duet(itself, self._arms(itself, self._base, self._base), "null")
        gate = self._gate
        alone = judge([_measured(f"{NULL}: {base.id}", data, None)], None, gate.min_effect,
                      gate.tolerance)  # fmt: skip
        self.report.null = alone[0]
        return data.outcome

    def _case(self, pair: Pair, where: str) -> Measured | None:
        """Measure a pair, and again if it is slower; None if neither side can run it."""
        arms = self._arms(pair, self._base, self._head)
        first = self._duet(pair, arms, where)
        if isinstance(first.outcome, Lost) and first.status in NOT_RUNNABLE:
            return self._refused(pair, first)
        second = None
        if isinstance(first.outcome, Decision) and first.outcome.finding is Finding.SLOWER:
            second = self._duet(pair, arms, f"{where} again")
        return _measured(pair.name, first, second)

    def _refused(self, pair: Pair, first: CaseData) -> Measured | None:
        """A worker could not run the case: only a failure if the other side can."""
        assert isinstance(first.outcome, Lost)
        arms = self._arms(pair, self._base, self._head)
        sides: tuple[Side, Side] = ("base", "head")
        refusals = [_refusal(arms, side) for side in sides]
        if all(status in NOT_RUNNABLE for status in refusals):
            self.report.skipped.append(Skipped(pair.name, str(first.status), first.outcome.text))
            return None
        return Measured(pair.name, Lost("one_side_only", first.outcome.text))

    def _duet(self, pair: Pair, arms: MakeArm, where: str) -> CaseData:
        def told(decision: Decision) -> None:
            self._tell(
                f"[{where}] {pair.name}: generation {decision.generations}, "
                f"{percent(decision.estimate)}, {decision.finding}"
            )

        data = measure_case(arms, self._gate, self._settings.looks, told, self._settings.pairs)
        if isinstance(data.outcome, Lost):
            self._tell(f"[{where}] {pair.name}: {data.outcome.text}")
        self.report.generations.setdefault(pair.name, []).extend(raw(data.generations))
        return data


def _found(case: Measured | None) -> bool:
    return case is not None and isinstance(case.last, Decision)


def _cost(pair: Pair) -> float:
    """MACs of an inference: the cheapest case is the null case."""
    analysis = pair.base.analysis
    return float(analysis.totals["macs"]) * pair.base.case.batch if analysis else float("inf")


def _measured(name: str, first: CaseData, second: CaseData | None) -> Measured:
    last = second or first
    return Measured(
        name,
        first.outcome,
        second.outcome if second else None,
        last.median_ms("base"),
        last.median_ms("head"),
        first.seconds + (second.seconds if second else 0.0),
    )


def _refusal(arms: MakeArm, side: Side) -> Status | None:
    """How a side's arm ends when it is asked to hold its model; None if it holds it."""
    arm = arms(side)
    with contextlib.closing(arm):
        try:
            arm.start()
            arm.hold()
        except ArmLostError as lost:
            return lost.outcome.status
    return None
