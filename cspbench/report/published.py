"""Published numbers beside the cases that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cspbench.report.rows import CaseRow


@dataclass(frozen=True)
class Published:
    """A published value with the source that prints it."""

    value: float
    source: str


def published_ap50(rows: Iterable[CaseRow]) -> dict[str, Published]:
    """Published AP50 by model id, for the models of ``rows`` that have one."""
    return {}
