"""Across boards: the same case on each board of a fleet, with what the boards differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cspbench.core.case import Case
from cspbench.figures.cases import plain
from cspbench.machine.comparability import Use, differences
from cspbench.report import numbers
from cspbench.report.rows import CaseRow, latency_ratio
from cspbench.report.section import SECTIONS, own_section
from cspbench.views.frames import Run


@dataclass(frozen=True)
class BoardCell:
    """A case on one board, as text; ``ratio`` is to the first board that measured it."""

    latency: str
    interval: str
    ratio: str = ""


@dataclass(frozen=True)
class BoardLine:
    """A case, and a cell for every label in order."""

    model: str
    setting: str
    cells: tuple[BoardCell, ...]


@dataclass(frozen=True)
class Across:
    """The comparison: labels, lines, and sentences on the conditions that differ."""

    labels: tuple[str, ...]
    lines: tuple[BoardLine, ...]
    differences: tuple[str, ...]


def across(runs: Sequence[Run], rows: Sequence[CaseRow]) -> Across | None:
    """Compare the cases that more than one board has; None if there are none."""
    labels = tuple(dict.fromkeys(row.board for row in rows if row.board))
    groups: dict[str, dict[str, CaseRow]] = {}
    for row in rows:
        if row.board:
            alone = str(replace(Case.parse(row.record.case), board=None))
            groups.setdefault(alone, {})[row.board] = row
    lines = [_line(cells, labels) for cells in groups.values() if len(cells) > 1]
    return Across(labels, tuple(lines), tuple(_differences(runs))) if lines else None


def _line(cells: dict[str, CaseRow], labels: Sequence[str]) -> BoardLine:
    first = next(iter(cells.values()))
    base = next((cells[label] for label in labels if _measured(cells.get(label))), None)
    return BoardLine(
        model=first.model_id,
        setting=first.setting.removesuffix(f" on {first.board}"),
        cells=tuple(_cell(cells.get(label), base) for label in labels),
    )


def _measured(row: CaseRow | None) -> bool:
    return row is not None and row.latency_ms is not None


def _cell(row: CaseRow | None, base: CaseRow | None) -> BoardCell:
    if row is None:
        return BoardCell(numbers.MISSING, "")
    if row.latency_ms is None:
        return BoardCell(row.status, "")
    ratio = latency_ratio(row, base) if base is not None and base is not row else None
    text = "" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    return BoardCell(numbers.milliseconds(row.latency_ms), numbers.plus_minus(row.half_width), text)


def _differences(runs: Sequence[Run]) -> list[str]:
    """In what each board is of another kind than the first one."""
    sentences = []
    for run in runs[1:]:
        different = differences(runs[0].environment, run.environment, Use.FLEET)
        if different:
            facts = ", ".join(plain(one.fact) for one in different)
            sentences.append(f"{run.name} differs from {runs[0].name} in {facts}.")
    return sentences


SECTIONS.add(
    own_section(
        __file__, 40, "Across boards",
        lambda context: {"boards": across(context.runs, context.rows)},
        applies=lambda context: any(row.board for row in context.rows),
    )
)  # fmt: skip
