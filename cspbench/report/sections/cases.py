"""The table of cases, which the page's script sorts and filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from cspbench.core.statuses import FLAGS
from cspbench.figures.cases import plain
from cspbench.report import marks, numbers
from cspbench.report.data import published_accuracies
from cspbench.report.definitions import DEFINITIONS, Definition
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, ReportContext, own_section
from cspbench.store.blocks import SEPARATE
from cspbench.views.ratios import ratio_notes, times_of


class Column(NamedTuple):
    """A column of the case table: its title, what it is sorted by, its definition."""

    title: str
    key: str = ""
    definition: Definition | None = None
    kind: str = "num"


#: Only where a run has ratios.
RATIO = Column("Ratio", "ratio", DEFINITIONS["ratio"])
COLUMNS = (
    Column("Network", "model_id", kind=""),
    Column("Backend", "backend", kind=""),
    Column("Latency, ms", "latency_ms", DEFINITIONS["latency_ms"]),
    Column("±95 %", "half_width", DEFINITIONS["interval"]),
    RATIO,
    Column("Launches", "", DEFINITIONS["spread"], ""),
    Column("fps", "fps", DEFINITIONS["fps"]),
    Column("p90, ms", "p90_ms", DEFINITIONS["p90_ms"]),
    Column("BFLOPs", "bflops", DEFINITIONS["bflops"]),
    Column("Params, M", "params_m", DEFINITIONS["params_m"]),
    Column("Accuracy, %", "accuracy", DEFINITIONS["accuracy"]),
    Column("Status", "status", kind=""),
)


#: A table of so few rows repeats what applies to all of them.
FEW_ROWS = 4


class Filter(NamedTuple):
    """A choice above the case table."""

    name: str
    key: str
    choices: list[str]


def _filters(rows: Sequence[CaseRow]) -> list[Filter]:
    keys = {
        "Backend": "backend",
        "Family": "family",
        "γ": "gamma",
        "Status": "status",
        "Run": "run",
    }
    return [
        Filter(name, key, sorted({getattr(row, key) for row in rows} - {""}))
        for name, key in keys.items()
    ]


def common_flags(rows: Sequence[CaseRow]) -> list[tuple[str, int]]:
    """Flags of more than half of the measured cases, and of how many: said once, not in each."""
    measured = [row for row in rows if row.latency_ms is not None]
    counts = Counter(flag for row in measured for flag in row.flags)
    many = [(flag, count) for flag, count in counts.items() if 2 * count > len(measured)]
    return many if len(measured) > FEW_ROWS else []


def _table_rows(rows: Sequence[CaseRow], common: Collection[str]) -> list[dict[str, Any]]:
    largest = max((row.fps for row in rows if row.fps is not None), default=0.0)
    accuracies = published_accuracies(rows)
    differ = len(times_of(row.ratio_of for row in rows)) > 1
    return [
        _table_row(row, accuracies.get(row.model_id), largest, common, times_differ=differ)
        for row in rows
    ]


def _table_row(
    row: CaseRow,
    accuracy: str | None,
    largest_fps: float,
    common: Collection[str],
    *,
    times_differ: bool,
) -> dict[str, Any]:
    params = row.total("params")
    extra = [f"batch {row.batch}"] * (row.batch != 1) + [f"{row.threads} threads"] * (
        row.threads != 1
    )
    return {
        "index": row.index,
        "outcome": row.outcome,
        "run": row.run,
        "model": row.shown,
        "backend": row.backend,
        "extra": ", ".join(extra),
        "latency": numbers.milliseconds(row.latency_ms),
        "plus_minus": numbers.plus_minus(row.half_width),
        "ratio": _ratio(row),
        "ratio_of": row.ratio_of if times_differ else "",
        "group": row.ratio_group or "",
        "spread": _spread(row),
        "fps": numbers.short(row.fps),
        "fps_bar": "" if row.fps is None else marks.bar(row.fps, largest_fps),
        "p90": numbers.milliseconds(row.p90_ms),
        "bflops": numbers.fixed(row.total("bflops"), 3),
        "params": numbers.fixed(None if params is None else params / 1e6, 3),
        "accuracy": accuracy or numbers.MISSING,
        "status": row.status,
        "flags": [FLAGS[flag] for flag in row.flags if flag not in common],
    }


def _ratio(row: CaseRow) -> str:
    if row.ratio is None:
        return numbers.MISSING
    return f"{numbers.short(row.ratio)} {numbers.plus_minus(row.ratio_half_width)}"


def _spread(row: CaseRow) -> Markup | str:
    if row.latency_ms is None:
        return ""
    return marks.spread(row.latency_ms, row.latency_low, row.latency_high, row.launch_medians_ms)


def data(context: ReportContext) -> Mapping[str, Any]:
    """Columns, rows and filters of the table, and the references of its ratios."""
    cannot_run = sum(row.outcome == "skipped" for row in context.rows)
    has_ratios = any(row.ratio is not None for row in context.rows)
    kinds = {row.ratio_of for row in context.rows}
    common = common_flags(context.rows)
    return {
        "columns": [column for column in COLUMNS if has_ratios or column is not RATIO],
        "has_ratios": has_ratios,
        "in_turn": bool(times_of(kinds)),
        "separate": SEPARATE in kinds,
        "ratio_notes": ratio_notes(kinds),
        "references": list(
            dict.fromkeys(plain(run.reference) for run in context.runs if run.reference is not None)
        ),
        "rows": _table_rows(context.rows, [flag for flag, _ in common]),
        "common_flags": [(FLAGS[flag], count) for flag, count in common],
        "measured": sum(row.latency_ms is not None for row in context.rows),
        "claims": [(row.index, row.claim) for row in context.rows if row.claim],
        # Where no case can run, the table would be empty without them.
        "cannot_run": cannot_run if cannot_run < len(context.rows) else 0,
        "filters": _filters(context.rows),
        "many_runs": len(context.runs) > 1,
    }


SECTIONS.add(own_section(__file__, 30, "Cases", data, count=lambda context: len(context.measured)))
