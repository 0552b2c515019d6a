"""The roofline of the report: predicted time of each analysed case beside the measured one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cspbench.core.text import percent
from cspbench.figures.roofline import ceilings_of
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, own_section
from cspbench.views.frames import Run

if TYPE_CHECKING:
    from cspbench.analysis import Analysis


def roofline(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[Line]:
    """One line a measured case of batch 1 with an analysed model and a device with ceilings."""
    lines = []
    for run in runs:
        here = {id(record) for record in run.records}
        predictions: dict[tuple[str, str], tuple[float, dict[str, float]]] = {}
        for row in rows:
            if id(row.record) not in here or row.latency_ms is None or row.batch != 1:
                continue
            device, ceilings = ceilings_of(run, row.record.case)
            if ceilings is None or row.model_id not in run.analyses:
                continue
            key = (row.model_id, device)
            if key not in predictions:
                predictions[key] = _predict(run.analyses[row.model_id], ceilings)
            lines.append(_line(row, *predictions[key]))
    return lines


def _predict(analysis: Analysis, ceilings: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    from cspbench.analysis.roofline import layer_rows, peak_of, shares, total_ms

    layers = layer_rows(analysis, peak_of(ceilings))
    return total_ms(layers), {str(bound): share for bound, share in shares(layers).items()}


def _line(row: CaseRow, predicted_ms: float, shares: Mapping[str, float]) -> Line:
    assert row.latency_ms is not None
    return {
        "model": row.model_id,
        "setting": row.setting,
        "predicted": numbers.milliseconds(predicted_ms),
        "measured": numbers.milliseconds(row.latency_ms),
        "ratio": numbers.short(row.latency_ms / predicted_ms),
        **{bound: percent(share) for bound, share in shares.items()},
    }


SECTIONS.add(
    own_section(
        __file__, 90, "Roofline", lambda context: {"roofline": roofline(context.runs, context.rows)}
    )
)
