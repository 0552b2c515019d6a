"""Method notes: where numbers come from, and the definition of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspbench.report.definitions import ORIGIN_TEXTS
from cspbench.report.section import SECTIONS, ReportContext, SectionSpec


def data(_context: ReportContext) -> Mapping[str, Any]:
    """The four origins; the definitions are known to every template."""
    return {"origin_texts": ORIGIN_TEXTS}


SECTIONS.add(
    SectionSpec(
        "method",
        heading="Method notes",
        title="Method notes",
        order=130,
        data=data,
        template=Path(__file__).with_suffix(".html"),
    )
)
