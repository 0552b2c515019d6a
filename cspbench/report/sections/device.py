"""Accelerators: the device's own time, and what bounds each case, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, ReportContext, own_section
from cspbench.views.frames import Run


def device(rows: Sequence[CaseRow], runs: Sequence[Run]) -> list[Line]:
    """One line a case whose device was looked at."""
    by_name = {run.name: run for run in runs}
    lines = []
    for row in rows:
        result = row.record.newest("device")
        if result is None:
            continue
        bound = by_name[row.run].bound(row.record) if row.run in by_name else None
        lines.append(
            {
                "model": row.model_id,
                "setting": row.setting,
                "batch": str(row.batch),
                "device": numbers.short(result.medians["device_ns"] / 1e6),
                "gaps": "" if result.held else "gaps included",
                "latency": numbers.short(row.latency_ms),
                "kernels": str(result.kernels.count) if result.kernels else "",
                "bound": plain(str(bound)) if bound else "not known",
                "sentence": plain(bound.text) if bound else "",
            }
        )
    return lines


def _values(context: ReportContext) -> dict[str, list[Line]]:
    return {"device": device(context.rows, context.runs)}


def _looked_at(context: ReportContext) -> bool:
    return any(row.record.newest("device") is not None for row in context.rows)


SECTIONS.add(own_section(__file__, 95, "Accelerator", _values, applies=_looked_at))
