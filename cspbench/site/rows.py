"""What the tables of a site print: one dictionary of texts a row, and what columns sort by."""

from __future__ import annotations

from typing import Any

from cspbench.measure.statistics import Interval
from cspbench.report.numbers import milliseconds, plus_minus
from cspbench.report.numbers import percent as percent_text
from cspbench.report.rows import outcome_of
from cspbench.site.changes import change, decide
from cspbench.site.chart import sparkline
from cspbench.site.histories import Machine, Series
from cspbench.site.summary import CaseSummary, RunSummary

Row = dict[str, Any]

#: Signs beside the words, so that no decision depends on colour.
SIGNS = {"worse": "▲", "better": "▼", "same": "=", "undecided": "~"}


def percent(share: float) -> str:
    """A change with its sign; what is rounded to nothing is +0.0 %."""
    return percent_text(round(share, 3) + 0.0, 1)


def change_cell(base: Interval | None, head: Interval | None) -> Row:
    """A change from one run to the next: text, interval, decision and what it sorts by."""
    ratio = change(base, head)
    if ratio is None:
        return {"text": "–", "range": "", "decision": "", "sign": "", "value": ""}
    bounds = ratio.low is not None and ratio.high is not None
    decision = decide(ratio)
    return {
        "text": percent(ratio.estimate - 1),
        "range": f"{percent(ratio.low - 1)} to {percent(ratio.high - 1)}" if bounds else "",  # type: ignore[operator]
        "decision": decision,
        "sign": SIGNS[decision],
        "value": ratio.estimate,
    }


def latency_cell(latency: Interval | None) -> Row:
    """A latency with half the width of its interval."""
    return {
        "ms": milliseconds(latency.estimate if latency else None),
        "half": plus_minus(latency.relative_half_width) if latency else "–",
        "value": latency.estimate if latency else "",
    }


def run_row(run: RunSummary, machines: dict[str, Machine]) -> Row:
    """A run in a list of runs."""
    measured = sum(case.ms is not None for case in run.cases)
    boards = [key for board, key in run.machine_keys.items() if board or not run.boards]
    return {
        "key": run.key,
        "name": run.name,
        "created": day_and_time(run.created),
        "suite": run.suite,
        "machine": machines[boards[0]].name if len(boards) == 1 else f"{len(boards)} boards",
        "machine_key": boards[0] if len(boards) == 1 else "",
        "commit": run.commit,
        "measured": measured,
        "cases": len(run.cases),
        "flagged": sum(bool(case.flags) for case in run.cases),
    }


def series_row(series: Series) -> Row:
    """A case on a machine in a list of cases; its change is to the run before of the same suite."""
    last = len(series.rows) - 1
    suites = [run.suite for run in series.runs]
    before = next((at for at in reversed(range(last)) if suites[at] == suites[last]), None)
    return {
        "key": series.newest.key,
        "case": series.case,
        "backend": series.newest.backend,
        "machine": series.machine.name,
        "machine_key": series.machine.key,
        "latency": latency_cell(series.latency_ms(last)),
        "change": change_cell(
            None if before is None else series.latency_ms(before), series.latency_ms(last)
        ),
        "spark": sparkline([row["latency_ms"] for row in series.rows]),
        "runs": len(series.rows),
        "created": day_and_time(series.rows[-1]["created"]),
    }


def case_row(case: CaseSummary, before: CaseSummary | None) -> Row:
    """A case in the page of a run; ``before`` is the same case in the run before."""
    ratio = case.ratio
    interval = Interval(ratio, case.ratio_low, case.ratio_high) if ratio else None
    return {
        "key": case.key if case.ms is not None else "",
        "case": case.case,
        "backend": case.backend,
        "status": case.status,
        "outcome": outcome_of(case.status),
        "reason": case.reason if case.ms is None else "",
        "flags": case.flags,
        "latency": latency_cell(case.latency_ms),
        "ratio": f"{ratio:.3f}" if ratio else "–",
        "ratio_half": plus_minus(interval.relative_half_width) if interval else "",
        "ratio_value": ratio or "",
        "launches": case.launches,
        "change": change_cell(before and before.latency_ms, case.latency_ms),
    }


def level_row(series: Series, number: int) -> Row:
    """A new level of a case: ``number`` counts the change points of the series."""
    level = series.changes[number]
    run = series.runs[level.number]
    return {
        "key": series.newest.key,
        "case": series.case,
        "machine": series.machine.name,
        "machine_key": series.machine.key,
        "kind": "worse" if level.share > 0 else "better",
        "sign": SIGNS["worse" if level.share > 0 else "better"],
        "old": milliseconds(level.old_ms),
        "new": milliseconds(level.new_ms),
        "share": percent(level.share),
        "run": run.name,
        "run_key": run.key,
        "before_key": series.runs[level.number - 1].key,
        "created": day_and_time(run.created),
        "cause": series.cause(level.number),
    }


def history_row(series: Series, number: int) -> Row:
    """A run in the history of a case."""
    run = series.runs[number]
    return {
        "run": run.name,
        "run_key": run.key,
        "created": day_and_time(run.created),
        "commit": series.rows[number]["commit"],
        "latency": latency_cell(series.latency_ms(number)),
        "new": series.rows[number]["change_point"] is True,
        "cause": series.rows[number]["environment"],
    }


def day_and_time(created: str) -> str:
    """``2026-11-27 01:10``, as the run has it."""
    return created[:16].replace("T", " ")
