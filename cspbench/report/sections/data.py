"""Raw data: the case table as CSV, and what the page shows as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cspbench.figures.cases import plain
from cspbench.report.section import SECTIONS, ReportContext, own_section

if TYPE_CHECKING:
    from cspbench.views.frames import Run


def csv_address(runs: Sequence[Run]) -> str:
    """The case tables of all runs as a ``data:`` address, for a download without a script."""
    import pandas as pd

    from cspbench.views.formats import render as render_frame

    frames = [run.cases.assign(run=run.name) for run in runs]
    text = render_frame(pd.concat(frames, ignore_index=True), "csv")
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}"


def data(context: ReportContext) -> Mapping[str, Any]:
    """Names of the runs, and the table as an address that needs no script."""
    return {
        "names": [plain(run.name) for run in context.runs],
        "file_stem": plain(context.stem),
        "csv": csv_address(context.stored),
    }


SECTIONS.add(own_section(__file__, 140, "Raw data", data))
