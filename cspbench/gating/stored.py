"""Stored runs as sides: only on the machine that measured them, and with wider intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.gating.decide import separate_runs
from cspbench.gating.report import GateReport, Skipped
from cspbench.gating.sides import SideRequest, stored_side
from cspbench.gating.verdict import MeasuredCase, Unmeasured, judge_separate
from cspbench.machine.comparability import Severity, Use
from cspbench.store.records import Record, records
from cspbench.store.rundir import StoredRun, read_run
from cspbench.suite.load import load_suite
from cspbench.views.conditions import run_differences

if TYPE_CHECKING:
    from cspbench.gating.job import GateSettings, StepReport

#: Settings of the measurement on which a median depends.
MEASURE = ("warmup_seconds", "seed")
#: No smaller effect or tolerance holds here: separate runs differ by 2.5 % (standard deviation)
#: without any cause in the code.
LEAST_EFFECT, LEAST_TOLERANCE = 0.03, 0.05


def run_stored_gate(
    suite: Path,
    base: SideRequest,
    head: SideRequest,
    settings: GateSettings,
    report_step: StepReport = lambda _text: None,
) -> GateReport:
    """Compare with a stored run. A side that is no stored run is measured now, by ``rounds``.

    Raises:
        InputError: the runs come from different machines, versions or settings (the message names
            every difference), or a side is neither a stored run nor the suite with settings.
    """
    started = time.monotonic()
    sides = (
        _run_of(base, suite, settings, report_step),
        _run_of(head, suite, settings, report_step),
    )
    _refuse_unlike(*sides)
    now = load_suite(suite)
    gate = now.gate
    report = GateReport(
        suite=str(sides[1].meta["suite"]["name"]),
        base=base.text,
        head=head.text,
        min_effect=max(gate.min_effect, LEAST_EFFECT),
        tolerance=max(gate.tolerance, LEAST_TOLERANCE),
        rules=dict(gate.rules),
        rules_from="head" if base.kind == "run" else "base",
        strict=settings.strict,
        method="separate runs",
        facts={
            name: {"kind": "run", "run": run.path.name, "created": run.meta["created"]}
            for name, run in zip(("base", "head"), sides, strict=True)
        },
        environment=sides[1].meta["environment"],
    )
    if base.kind == "run":
        report.notes.append(f"a stored run holds no rules: those of {suite} as it is now hold")
        if sides[0].meta["suite"].get("digest") not in ("", None, now.digest):
            report.suite_changes.append(f"{suite} has changed since the base was measured")
    for name, _ in gate.rules:
        report.leave_unchecked(f"{name} is not checked between stored runs")
    _judge(report, sides, settings.only)
    report.notes += run_differences(sides[0], sides[1], Use.GATE, Severity.WARN)
    report.notes.append(
        "the sides did not take turns: the intervals allow for changes of the machine between the "
        "runs, and no effect is confirmed by a second measurement"
    )
    report.seconds = time.monotonic() - started
    return report


def _run_of(
    side: SideRequest, suite: Path, settings: GateSettings, report_step: StepReport
) -> StoredRun:
    """The stored run of a side, or a run that is measured now."""
    if side.kind == "run":
        return stored_side(side)
    if side.kind != "set" or side.python:
        raise InputError(
            f"{side.text} cannot be compared with a stored run: compare set:... with the run, or "
            "two git refs with each other, which is also far more certain"
        )
    from cspbench.runner.executor import LocalExecutor
    from cspbench.runner.plan import plan_suite
    from cspbench.runner.run import execute, new_run

    plan = plan_suite(load_suite(suite, dict(side.settings)), settings.only)
    directory = new_run(plan, settings.results)
    report_step(f"measuring {side.text} by rounds into {directory.path}")
    execute(plan, directory, executor=LocalExecutor(allow_code=settings.allow_code))
    return read_run(directory.path)


def _refuse_unlike(base: StoredRun, head: StoredRun) -> None:
    problems = run_differences(base, head, Use.GATE, Severity.REFUSE)
    for name in MEASURE:
        old, new = (run.meta["suite"]["measure"].get(name) for run in (base, head))
        if old != new:
            problems.append(f"measure.{name} was {old!r} and is {new!r}")
    if problems:
        names = f"{base.path.name} and {head.path.name}"
        raise InputError([f"{names} cannot be compared: {problem}" for problem in problems])


def _matching(run: StoredRun, only: Sequence[str]) -> list[Record]:
    found = records(run)
    chosen = {*select(only, [record.case for record in found])}
    return [record for record in found if record.case in chosen]


def _judge(report: GateReport, sides: tuple[StoredRun, StoredRun], only: Sequence[str]) -> None:
    base, head = sides
    old, new = ({record.case: record for record in _matching(run, only)} for run in (base, head))
    pairs = []
    for record in new.values():
        if record.case not in old:
            report.notes.append(f"{record.case} is only on the head's side: not compared")
        elif {old[record.case].status, record.status} <= NOT_RUNNABLE:
            report.skipped.append(Skipped(record.case, record.status.value, record.reason))
        else:
            pairs.append((old[record.case], record))
    report.notes += [
        f"{case} is only on the base's side: not compared" for case in old if case not in new
    ]
    if not pairs and not report.skipped:
        raise InputError(f"{base.path.name} and {head.path.name} have no case in common")
    keys = [{case["id"]: case["key"] for case in run.meta["cases"]} for run in (base, head)]
    cases = [_measured(pair, len(pairs), report) for pair in pairs]
    report.verdicts = judge_separate(cases, report.min_effect, report.tolerance)
    report.notes += [
        f"{pair[0].case}: the definition of the model changed between the runs"
        for pair in pairs
        if keys[0][pair[0].case] != keys[1][pair[0].case]
    ]


def _measured(pair: tuple[Record, Record], comparisons: int, report: GateReport) -> MeasuredCase:
    base, head = ([one.median_ms for one in record.times] for record in pair)
    bad = next((record for record in pair if record.status is not Status.OK), None)
    name = pair[0].case
    if bad is not None and bad.status is not Status.INTERRUPTED:
        return MeasuredCase(name, Unmeasured("arm_ended", f"{bad.status}: {bad.reason}"))
    if min(len(base), len(head)) < 2:
        text = f"{len(base)} good launches of the base and {len(head)} of the head; two are needed"
        return MeasuredCase(name, Unmeasured("few_launches", text))
    decision = separate_runs(base, head, report.min_effect, report.tolerance, comparisons)
    return MeasuredCase(name, decision, None, median(base), median(head))
