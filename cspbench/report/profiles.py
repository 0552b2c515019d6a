"""Measured layer times and energy of the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cspbench.core.text import percent
from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import Line

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

#: Profiles of more cases would make the file too large.
MAX_PROFILES = 60
COLUMNS = (
    "entry", "entry_op", "stage", "kind", "time_ms", "share", "macs", "gflops_per_s", "gb_per_s",
    "compute_utilisation", "memory_utilisation",
)  # fmt: skip
_CONVOLUTIONS = ("conv", "linear", "matmul")


def profiles(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[Line]:
    """One line a case whose layers were timed."""
    by_case = _by_case(runs)
    return [
        _line(row, by_case[(row.run, row.record.case)])
        for row in rows
        if (row.run, row.record.case) in by_case
    ]


def profile_tables(runs: Sequence[Run], rows: Sequence[CaseRow]) -> dict[str, Any]:
    """Layer times by the index of the case, of the first MAX_PROFILES, as columns and rows."""
    by_case = _by_case(runs)
    return {
        str(row.index): {
            "columns": COLUMNS,
            "rows": [
                [_cell(value) for value in line]
                for line in by_case[(row.run, row.record.case)][list(COLUMNS)].to_numpy().tolist()
            ],
        }
        for row in profiled_rows(runs, rows)
    }


def profiled_rows(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[CaseRow]:
    """The first MAX_PROFILES cases whose layers were timed."""
    by_case = _by_case(runs)
    return [row for row in rows if (row.run, row.record.case) in by_case][:MAX_PROFILES]


def _by_case(runs: Sequence[Run]) -> dict[tuple[str, str], pd.DataFrame]:
    return {
        (plain(run.name), str(case)): frame
        for run in runs
        if any(record.layers for record in run.records)
        for case, frame in run.layer_times.groupby("case", sort=False)
    }


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    return None if value is None or value != value else float(f"{value:.4g}")  # noqa: PLR0124


def _line(row: CaseRow, frame: pd.DataFrame) -> Line:
    entries, residual = frame.iloc[:-1], frame.iloc[-1]
    total = float(frame["time_ms"].sum())
    slowest = entries.iloc[int(entries["time_ms"].to_numpy().argmax())] if len(entries) else None

    def share(chosen: pd.DataFrame) -> str:
        return percent(float(chosen["time_ms"].sum()) / total) if total else numbers.MISSING

    return {
        "model": row.model_id,
        "setting": row.setting,
        "total": numbers.milliseconds(total),
        "convolutions": share(entries[entries["kind"].isin(_CONVOLUTIONS)]),
        "copies": share(entries[entries["kind"] == "copy"]),
        "unjoined": share(entries[entries["kind"].isna()]),
        "residual": percent(float(residual["time_ms"]) / total) if total else numbers.MISSING,
        "slowest": numbers.MISSING if slowest is None else plain(slowest["entry"]),
        "slowest_share": (
            numbers.MISSING
            if slowest is None or not total
            else percent(float(slowest["time_ms"]) / total)
        ),
    }
