"""Method notes: where numbers come from, and the definition of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cspbench.report.definitions import ORIGIN_TEXTS
from cspbench.report.section import SECTIONS, ReportContext, own_section


def data(_context: ReportContext) -> Mapping[str, Any]:
    """The four origins; the definitions are known to every template."""
    return {"origin_texts": ORIGIN_TEXTS}


SECTIONS.add(own_section(__file__, 130, "Method notes", data))
