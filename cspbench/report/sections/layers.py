"""Layer by layer: how compute is spread over a network, and where the measured time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cspbench.core.text import percent
from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.profiles import profiled_rows, profiles
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, ReportContext, own_section
from cspbench.views.frames import Run


def balance(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[Line]:
    """One line a network that was analysed, in plan order."""
    names: dict[str, str] = {}
    for run in runs:
        names |= largest_layers(run)
    lines: dict[str, Line] = {}
    for row in rows:
        total, largest = row.total("bflops"), row.total("max_layer_bflops")
        if not total or largest is None:
            continue
        cio = row.total("cio_paper")
        lines[row.model_id] = {
            "model": row.model_id,
            "bflops": numbers.fixed(total, 3),
            "largest": numbers.fixed(largest, 3),
            "share": percent(largest / total, 1),
            "name": names.get(row.model_id, ""),
            "cio": numbers.fixed(None if cio is None else cio / 1e6, 2),
            "traffic": numbers.size(row.total("traffic_bytes")),
            "fused": numbers.size(row.total("traffic_bytes_fused")),
            "copies": numbers.size(row.total("copy_bytes")),
        }
    return list(lines.values())


def largest_layers(run: Run) -> dict[str, str]:
    """Module path of the layer with most BFLOPs by model id."""
    return {
        plain(model): plain(analysis.get("places", {}).get("max_layer_bflops", ""))
        for model, analysis in run.stored.meta["analyses"].items()
    }


def data(context: ReportContext) -> Mapping[str, Any]:
    """Balance of each network, and profile of each case whose layers were timed."""
    runs, rows = context.runs, context.rows
    profiled = profiled_rows(runs, rows)
    return {
        "balance": balance(runs, rows),
        "profiles": profiles(runs, rows),
        "profiled": profiled,
        "pair": first_pair(profiled),
    }


def first_pair(rows: Sequence[CaseRow]) -> tuple[int, int]:
    """The pair that is shown first: a partial network beside its plain one, else the first two."""
    for row in rows:
        for base in rows:
            if row.is_form_of(base):
                return base.index, row.index
    return (rows[0].index, rows[1].index) if len(rows) > 1 else (0, 0)


SECTIONS.add(own_section(__file__, 70, "Layer by layer", data, title="Layers"))
