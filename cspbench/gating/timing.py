"""The timed part of a gate: all pairs, those again that moved, and the null case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.gating.decide import Decision, InterimAnalysis, shared_among
from cspbench.gating.duet import MakeArm, Side
from cspbench.gating.measure import ArmsOf, CaseData, measure_cases, works_alone
from cspbench.gating.prepare import Pair
from cspbench.gating.report import GateReport, Skipped, raw
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import MeasuredCase, Unmeasured, judge, percent
from cspbench.runner.arms import ArmLostError, load_once
from cspbench.suite.suite import Gate

NULL = "the base against itself"


@dataclass(frozen=True)
class Timing:
    """Measures pairs in turns; raw blocks, skipped cases and the null case go to ``report``.

    ``interim`` analyses and ``pairs`` of bursts in a block are the schedule, ``arms`` makes the
    arms of a pair, ``report_step`` gets a sentence for each step.
    """

    base: OpenSide
    head: OpenSide
    gate: Gate
    interim: Sequence[InterimAnalysis]
    pairs: int
    arms: ArmsOf
    report: GateReport
    report_step: Callable[[str], None]

    def cases(self, pairs: Sequence[Pair]) -> dict[str, MeasuredCase]:
        """Measure all pairs, and those again whose head is slower or faster, by their names.

        A pair that neither side can run is not among them.
        """
        duets = {pair.name: (pair, self.arms(pair, self.base, self.head)) for pair in pairs}
        where = {name: f"{n}/{len(pairs)}" for n, name in enumerate(duets, start=1)}
        firsts, seconds = self._twice(duets, where.__getitem__)
        measured: dict[str, MeasuredCase] = {}
        for name, first in firsts.items():
            case: MeasuredCase | None
            if isinstance(first.outcome, Unmeasured) and first.status in NOT_RUNNABLE:
                case = self._refused(duets[name][0], first)
            else:
                case = measured_case(name, first, seconds.get(name))
            if case is not None:
                measured[name] = case
        return measured

    def null_case(self, pairs: Sequence[Pair]) -> MeasuredCase | None:
        """Measure the base of the cheapest case against itself; None without a decided case.

        Like any finding, that it moved counts when it is found twice.
        """
        if not pairs:
            return None
        base = min(pairs, key=_cost).base
        itself = Pair(NULL, base, base)
        arms = self.arms(itself, self.base, self.base)
        firsts, seconds = self._twice({NULL: (itself, arms)}, lambda _: "null")
        case = measured_case(f"{NULL}: {base.id}", firsts[NULL], seconds.get(NULL))
        (self.report.null,) = judge([case], None, self.gate.min_effect, self.gate.tolerance)
        return case

    def _refused(self, pair: Pair, first: CaseData) -> MeasuredCase | None:
        """The case cannot run on one side at least: a failure only if the other side can run it."""
        assert isinstance(first.outcome, Unmeasured)
        arms = self.arms(pair, self.base, self.head)
        sides: tuple[Side, Side] = ("base", "head")
        refusals = [_refusal(arms, side) for side in sides]
        if all(status in NOT_RUNNABLE for status in refusals):
            self.report.skipped.append(Skipped(pair.name, str(first.status), first.outcome.text))
            return None
        return MeasuredCase(pair.name, Unmeasured("one_side_only", first.outcome.text))

    def _twice(
        self, duets: Mapping[str, tuple[Pair, MakeArm]], where: Callable[[str], str]
    ) -> tuple[dict[str, CaseData], dict[str, CaseData]]:
        """First measurements of all pairs, and second ones of those that moved in the first."""
        firsts = self._duets(duets, where)
        moved = {name: first.moved for name, first in firsts.items() if first.moved is not None}
        again = {name: duets[name] for name in moved}
        # Each goes on until it would be confirmed whatever the others show: a slowdown that were
        # surely found by itself is found among others, too.
        shared = shared_among(len(moved), self.interim)
        return firsts, self._duets(again, lambda name: f"{where(name)} again", moved, shared)

    def _duets(
        self,
        duets: Mapping[str, tuple[Pair, MakeArm]],
        where: Callable[[str], str],
        earlier: Mapping[str, float] = {},
        interim: Sequence[InterimAnalysis] | None = None,
    ) -> dict[str, CaseData]:
        """Measure pairs; ``where`` says of a pair's name how far the gate is.

        ``earlier`` are the estimates that a second measurement is to confirm, ``interim`` its
        analyses.
        """

        def report_block(name: str, decision: Decision) -> None:
            self.report_step(
                f"[{where(name)}] {name}: block {decision.blocks}, "
                f"{percent(decision.estimate)}, {decision.finding}"
            )

        found = measure_cases(
            {name: arms for name, (_, arms) in duets.items()},
            self.gate, interim or self.interim, report_block, self.pairs,
            one_thread={name for name, (pair, _) in duets.items()
                        if works_alone(pair.base.case) and works_alone(pair.head.case)},
            earlier=earlier, keep=self._keep,
        )  # fmt: skip
        for name, data in found.items():
            if isinstance(data.outcome, Unmeasured):
                self.report_step(f"[{where(name)}] {name}: {data.outcome.text}")
        return found

    def _keep(self, measured: Mapping[str, CaseData]) -> None:
        for name, data in measured.items():
            self.report.generations.setdefault(name, []).extend(raw(data.blocks))


def _cost(pair: Pair) -> float:
    """MACs of a batch: the cheapest case is the null case."""
    analysis = pair.base.analysis
    return float(analysis.totals["macs"]) * pair.base.case.batch if analysis else float("inf")


def measured_case(name: str, first: CaseData, second: CaseData | None) -> MeasuredCase:
    """What `judge` gets of a first measurement, and of a second one."""
    last = second or first
    return MeasuredCase(
        name,
        first.outcome,
        second.outcome if second else None,
        last.median_ms("base"),
        last.median_ms("head"),
        first.seconds + (second.seconds if second else 0.0),
        last.of,
        last.elapsed,
        sum(block.throttled_pairs for block in last.blocks),
    )


def _refusal(arms: MakeArm, side: Side) -> Status | None:
    """Status of a side's arm that cannot load its model; None if it can."""
    try:
        load_once(arms(side))
    except ArmLostError as lost:
        return lost.outcome.status
    return None
