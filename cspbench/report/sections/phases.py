"""Phases: what each case takes from load to steady state, in time and in memory."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.report import numbers
from cspbench.report.definitions import Definition
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, own_section
from cspbench.views.phases import phase_row

DEFINITIONS = (
    Definition(
        "load_ms", "ms", "measured",
        "From the call of the backend's load, which imports its library, to a model that is ready.",
    ),
    Definition(
        "first_ms", "ms", "measured",
        "The first inference, in which most backends allocate memory and pack weights.",
    ),
)  # fmt: skip


def phases(rows: Sequence[CaseRow]) -> list[Line]:
    """One line a measured case, in plan order."""
    return [_line(row) for row in rows if row.record.times]


def _line(row: CaseRow) -> Line:
    found = phase_row(row.record)
    seconds = found["compile_seconds"]
    return {
        "model": row.model_id,
        "setting": row.setting,
        "load": numbers.milliseconds(found["load_ms"]),
        "compile": "" if seconds is None else f"{numbers.short(seconds)} s",
        "loaded": numbers.size(found["loaded_bytes"]),
        "first": numbers.milliseconds(found["first_ms"]),
        "times": numbers.short(found["first_times"]),
        "after_first": numbers.size(found["after_first_bytes"]),
        "warmup": f"{found['warmup_count']:g}",
        "latency": numbers.milliseconds(found["latency_ms"]),
        "peak": numbers.size(found["peak_memory_bytes"]),
    }


SECTIONS.add(
    own_section(
        __file__, 95, "From load to steady state", lambda context: {"lines": phases(context.rows)},
        title="Phases", definitions=DEFINITIONS,
    )
)  # fmt: skip
