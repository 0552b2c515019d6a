"""Accelerators: the device's own time, and what bounds each case, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cspbench.figures.cases import plain
from cspbench.jobs.device import DeviceResult
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, ReportContext, own_section
from cspbench.views.frames import Run

#: Parts of an inference from and to the host's memory, in the order in which they begin.
PARTS = {"input_ns": "H2D", "enqueue_ns": "enqueue", "span_ns": "compute", "output_ns": "D2H"}


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
                "ends": _end_to_end(result),
            }
        )
    return lines


def _end_to_end(result: DeviceResult) -> str:
    """The parts of scope ``end_to_end`` in ms, as trtexec names them; empty for other scopes."""
    return ", ".join(
        f"{word} {numbers.short(result.parts[name] / 1e6)}"
        for name, word in PARTS.items()
        if name in result.parts
    )


def _values(context: ReportContext) -> dict[str, Any]:
    lines = device(context.rows, context.runs)
    return {"device": lines, "device_ends": any(line["ends"] for line in lines)}


def _looked_at(context: ReportContext) -> bool:
    return any(row.record.newest("device") is not None for row in context.rows)


SECTIONS.add(own_section(__file__, 95, "Accelerator", _values, applies=_looked_at))
