"""One gate from start to end: static comparison, duets, confirmation, null case, verdicts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cspbench.backends.spec import libraries
from cspbench.core.statuses import NOT_RUNNABLE
from cspbench.errors import InputError
from cspbench.gating.decide import INTERIM_ANALYSES, Decision, InterimAnalysis
from cspbench.gating.duet import PAIRS
from cspbench.gating.elsewhere import GateBoard, check_sides, launcher, on_board
from cspbench.gating.environments import with_environments
from cspbench.gating.measure import ArmsOf, arms_of
from cspbench.gating.measured import MeasuredChange, measure_rules, measured_rules, with_measured
from cspbench.gating.notes import common_cause, what_ratios_are_of, what_was_left_out
from cspbench.gating.prepare import Pair, not_here, pair_cases, runnable
from cspbench.gating.report import GateInterrupted, GateReport, Skipped
from cspbench.gating.sensitivity import known_sensitivity
from cspbench.gating.sides import OpenSide, SideRequest, has_suite, opened
from cspbench.gating.static import StaticChange, compare_static, static_rules, unknown_rules
from cspbench.gating.suites import Rules, changed_cases, changed_settings, new_cases
from cspbench.gating.timing import Timing
from cspbench.gating.verdict import CaseVerdict, MeasuredCase, Unmeasured, Verdict, judge
from cspbench.gating.why import with_why
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock

#: Gets a sentence for each step of a gate.
StepReport = Callable[[str], None]


@dataclass(frozen=True)
class GateSettings:
    """How a gate is run.

    With ``static`` False static changes block no case. ``keep_going`` measures the other cases
    although the static gate has blocked one. ``measure_identical`` measures cases whose artifact,
    settings and environment are the same on both sides of a git comparison. ``interim`` analyses
    and ``pairs`` of bursts in a block are the schedule. ``only`` holds patterns of case ids.
    ``allow_code`` permits code that a model brings. ``results`` is the folder for a side that is
    measured now and compared with a stored run. ``rules`` is the side whose suite decides.
    ``content`` is the text of a suite that is no file, and then decides on both sides.
    """

    strict: bool = False
    static: bool = True
    keep_going: bool = False
    measure_identical: bool = False
    interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES
    pairs: int = PAIRS
    only: Sequence[str] = ()
    allow_code: bool = False
    results: Path = Path("results")
    rules: Rules = "base"
    content: bytes | None = None


def run_gate(
    suite: Path,
    base: SideRequest,
    head: SideRequest,
    settings: GateSettings,
    report_step: StepReport = lambda _text: None,
    arms: ArmsOf = arms_of,
    board: GateBoard | None = None,
) -> GateReport:
    """Compare two sides by measuring both of them now.

    Args:
        suite: the suite's file in the working tree.
        base: the side to compare with.
        head: the side to judge.
        settings: how the gate is run.
        report_step: gets a sentence for each step.
        arms: makes the arms of a pair.
        board: measures instead of this machine, which only prepares.

    Raises:
        InputError: a side cannot be opened, or no case is on both sides.
    """
    started = time.monotonic()
    notes: list[str] = []
    if board is not None:
        check_sides((base, head))
        notes.append(f"measured on {board.name}, both sides in its environment")
    elif "git" in (base.kind, head.kind):
        base, head, notes = with_environments(
            suite, base, head, report_step, allow_code=settings.allow_code
        )
    with contextlib.ExitStack() as stack:
        sides = _open(stack, suite, base, head, settings, report_step, elsewhere=board is not None)
        if board is not None:
            sides, arms = (on_board(sides[0], board), on_board(sides[1], board)), board.arms
        job = _Job(*sides, settings, report_step, arms, board)
        job.report.notes += notes
        if board is None:  # a board takes its own lock for each block
            stack.enter_context(timing_lock(f"gate of {suite.name}", waiting=report_step))
        try:
            job.run()
        except KeyboardInterrupt as stop:
            job.report.interrupted = True
            raise GateInterrupted(job.report) from stop
        finally:
            job.report.seconds = time.monotonic() - started
        return job.report


def _open(
    stack: contextlib.ExitStack,
    suite: Path,
    base: SideRequest,
    head: SideRequest,
    settings: GateSettings,
    report_step: StepReport,
    *,
    elsewhere: bool,
) -> tuple[OpenSide, OpenSide]:
    """Open both sides; the side whose suite decides comes first."""

    def open_side(side: SideRequest, other: SideRequest, content: bytes | None) -> OpenSide:
        report_step(f"preparing {side.text}")
        return stack.enter_context(
            opened(
                side, suite, settings.only,
                beside_git=other.kind == "git" and side.kind != "git",
                allow_code=settings.allow_code, content=content, elsewhere=elsewhere,
            )
        )  # fmt: skip

    if settings.rules == "base":
        base_side = open_side(base, head, settings.content)
        return base_side, open_side(head, base, base_side.content)
    head_side = open_side(head, base, settings.content)
    # The base keeps its own suite where it has one: it may lack models that the head adds.
    content = None if has_suite(base, suite) else head_side.content
    return open_side(base, head, content), head_side


class _Job:
    """A gate at work. It collects its results in ``report``."""

    def __init__(
        self,
        base: OpenSide,
        head: OpenSide,
        settings: GateSettings,
        report_step: StepReport,
        arms: ArmsOf,
        board: GateBoard | None = None,
    ) -> None:
        self._base, self._head = base, head
        self._board = board
        self._launch = launcher(board)
        self._settings = settings
        self._report_step = report_step
        self._arms = arms
        self._gate = (base if settings.rules == "base" else head).suite.gate
        self.report = GateReport(
            suite=head.suite.name,
            base=base.request.text,
            head=head.request.text,
            min_effect=self._gate.min_effect,
            tolerance=self._gate.tolerance,
            rules=dict(self._gate.rules),
            rules_from=settings.rules,
            strict=settings.strict,
            facts={"base": base.facts, "head": head.facts},
            environment=fingerprint(libraries(), Path(head.suite.path).parent)
            if board is None
            else dict(board.environment),
        )

    def run(self) -> None:
        """Run all steps of the gate."""
        report = self.report
        loose = self._base.request.axes | self._head.request.axes
        pairs, notes = pair_cases(self._base.cases, self._head.cases, loose)
        report.notes += notes
        self._compare_suites()
        if not pairs:
            raise InputError(
                f"no case is on both sides: {self._base.request.text} has "
                f"{len(self._base.cases)}, {self._head.request.text} {len(self._head.cases)}"
            )
        measurable = [pair for pair in pairs if self._is_measurable(pair)]
        blocked = self._static_gate(pairs)
        measurable = [pair for pair in measurable if pair.name not in blocked]
        if blocked and not self._settings.keep_going:
            text = "not timed, because the static gate blocked a case (--keep-going times it)"
            report.skipped += [Skipped(pair.name, "skipped", text) for pair in measurable]
            return
        self._measure([pair for pair in measurable if not self._identical(pair)])

    def _compare_suites(self) -> None:
        """Report what the head's suite changes."""
        if self._settings.content is not None:
            return
        base, head, report = self._base, self._head, self.report
        if head.own is None:
            report.suite_changes.append(f"{head.request.text} has no suite of this name")
            return
        if base.own is None:
            report.suite_changes.append(
                f"{base.request.text} has no suite of this name: the head's suite holds for both"
            )
            return
        report.suite_changes += changed_settings(base.suite, head.own)
        if self._settings.rules == "base":
            report.suite_changes += changed_cases(head.suite, head.own)
            report.skipped += [
                Skipped(case.id, "new", "only the head's suite has it, so that it has no base")
                for case in new_cases(head.suite, head.own)
            ]
        for change in report.suite_changes:
            self._report_step(change)

    def _is_measurable(self, pair: Pair) -> bool:
        """True if both sides can run; else record why the pair is not measured."""
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
        seen: set[tuple[str, str]] = set()
        for pair in pairs:
            old, new = pair.base.analysis, pair.head.analysis
            if old is None or new is None:
                text = f"{pair.name} could not be analysed, so that its costs were not compared"
                self.report.notes.append(text)
                self.report.unchecked += [f"{text}: {rule.name}" for rule in static_rules(rules)]
                continue
            models = (str(pair.base.case.model_id), str(pair.head.case.model_id))
            name = models[1] if models[0] == models[1] else " -> ".join(models)
            changes = compare_static(name, old, new, rules)
            if not self._settings.static:
                changes = [replace(change, blocked=False) for change in changes]
            if models not in seen:
                self.report.static += changes
                for rule in unknown_rules(old, new, rules):
                    self._unchecked(f"{name}: {rule} is not known for both sides")
                seen.add(models)
            blocking = [change for change in changes if change.blocked]
            if blocking:
                blocked[pair.name] = blocking
        for name, blocking in blocked.items():
            # The layers of the first metric: most often they are those of the other metrics too.
            sentence = "; ".join([*(change.short for change in blocking), *blocking[0].layers])
            self.report.verdicts.append(CaseVerdict(name, Verdict.SLOWER, "static_rule", sentence))
        return set(blocked)

    def _identical(self, pair: Pair) -> bool:
        """True if a git comparison runs the same bytes in the same way; this is a verdict."""
        same = (
            "git" in (self._base.request.kind, self._head.request.kind)
            and not self._settings.measure_identical
            and pair.base.digest == pair.head.digest
            and pair.base.id == pair.head.id
            and self._base.python == self._head.python
        )
        if same:
            text = "the sides have the same artifact, settings and environment: nothing to time"
            self.report.verdicts.append(CaseVerdict(pair.name, Verdict.SAME, "identical", text))
        return same

    def _measure(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            return
        gate = self._gate
        timing = Timing(
            self._base, self._head, gate, self._settings.interim, self._settings.pairs,
            self._arms, self.report, self._report_step,
        )  # fmt: skip
        measured = timing.cases(pairs)
        decided = [pair for pair in pairs if _is_decided(measured.get(pair.name))]
        null = timing.null_case(decided)
        cases = list(measured.values())
        by_name = {pair.name: pair for pair in pairs}
        self.report.verdicts += [
            self._with_why(verdict, by_name[verdict.case])
            for verdict in judge(cases, null, gate.min_effect, gate.tolerance)
        ]
        note = common_cause(cases, gate.min_effect)
        self.report.notes += [note] if note else []
        self.report.notes += what_ratios_are_of(cases) + what_was_left_out(cases)
        known = None if self._board else known_sensitivity(self.report.environment)
        if known and (known.min_effect, known.tolerance) == (gate.min_effect, gate.tolerance):
            self.report.notes.append(known.sentence)
        if any(block["schedule"] == "pairs" for blocks in self.report.generations.values()
               for block in blocks):  # fmt: skip
            self.report.notes.append(
                "some models did not fit into memory together and were measured by pairs of "
                "processes, which is less precise"
            )
        # Last, because what they leave unchecked may be many notes.
        names = {pair.name for pair in decided}
        self._measured_rules(decided, [name for name in measured if name not in names])

    def _with_why(self, verdict: CaseVerdict, pair: Pair) -> CaseVerdict:
        is_confirmed = (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "confirmed")
        if not is_confirmed:
            return verdict
        self._report_step(f"looking for the layers that make {pair.name} slower")
        arms = self._arms(pair, self._base, self._head, layers=True)
        return with_why(verdict, arms, pair.base.analysis, pair.head.analysis)

    def _unchecked(self, why: str) -> None:
        self.report.leave_unchecked(f"{why}, so that its rule was not checked")

    def _measured_rules(self, pairs: Sequence[Pair], undecided: Sequence[str]) -> None:
        """Measure the numbers of the suite's measured rules, and apply these rules."""
        limits = measured_rules(dict(self._gate.rules))
        if not limits:
            return
        changes: list[MeasuredChange] = []
        names = " and ".join(rule.name for rule, _ in limits)
        for name in undecided:
            self._unchecked(f"{name}: it was not timed, nor was {names} measured")
        for pair in pairs:
            self._report_step(f"measuring {names} of {pair.name}")
            for change in measure_rules(pair, self._base, self._head, limits, self._launch):
                if isinstance(change, Unmeasured):
                    self._unchecked(f"{pair.name}: {change.text}")
                else:
                    changes.append(change)
        self.report.measured = changes
        self.report.verdicts = [with_measured(v, changes) for v in self.report.verdicts]


def _is_decided(case: MeasuredCase | None) -> bool:
    return case is not None and isinstance(case.last, Decision)
