"""Every published number of one system beside ours."""

from __future__ import annotations

from typing import Any

from cspbench import literature
from cspbench.analysis.record import Analysis
from cspbench.core.case import ModelId

#: Published metric -> our total and its unit. What we do not compute (accuracy, fps) is not here.
COMPUTED = {
    "params_conv_m": ("params_conv", 1e6),
    "params_file_m": ("params_file", 1e6),
    "params_m": ("params", 1e6),
    "bflops": ("bflops", 1.0),
    "cio_paper_m": ("cio_paper", 1e6),
}


def published_rows(model: ModelId, analysis: Analysis) -> list[dict[str, Any]]:
    """One row a published number: as printed, ours where we compute it at that input, difference.

    ``agrees`` says that ours rounds to the printed digits.
    Counts that depend on the input are compared only where it is the published one.
    """
    rows = []
    for number in literature.published(str(ModelId(model.model, model.neck))):
        total, unit = COMPUTED.get(number.metric, (None, 1.0))
        fits = number.input is None or model.input == (number.input, number.input)
        fixed = number.metric.startswith("params")
        ours = analysis.totals[total] / unit if total and (fits or fixed) else None
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
