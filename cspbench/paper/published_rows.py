"""Every published number of one system beside ours."""

from __future__ import annotations

from typing import Any

from cspbench import literature
from cspbench.analysis.record import Analysis
from cspbench.core.case import ModelId
from cspbench.paper.published_counts import BFLOPS, CIO, PARAMS

#: Published metric -> our total and its unit. What we do not compute (accuracy, fps) is not here.
COMPUTED = {counted.metric: counted for counted in (*PARAMS, BFLOPS, CIO)}


def published_rows(model: ModelId, analysis: Analysis) -> list[dict[str, Any]]:
    """One row a published number: as printed, ours where we compute it at that input, difference.

    ``agrees`` says that ours rounds to the printed digits.
    Counts that depend on the input are compared only where it is the published one.
    """
    rows = []
    for number in literature.published(str(ModelId(model.model, model.neck))):
        counted = COMPUTED.get(number.metric)
        fits = number.input is None or model.input == (number.input, number.input)
        fixed = number.metric.startswith("params")
        ours = None
        if counted is not None and (fits or fixed):
            ours = analysis.totals[counted.total] / counted.unit
        rows.append(
            {
                "metric": number.metric,
                "input": number.input,
                "device": number.device,
                "published": str(number),
                "ours": ours,
                "difference": number.residual(ours) if ours is not None else None,
                "agrees": number.agrees(ours) if ours is not None else None,
                "source": number.source,
            }
        )
    return rows
