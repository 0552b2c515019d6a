"""The paper's Tables 1 to 5 and Figures 1, 4, 7 and 8 in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from cspbench.figures.cases import plain
from cspbench.figures.spec import FIGURES, NoDataError, Origin
from cspbench.paper.evidence import from_runs, with_analyses
from cspbench.paper.reproduced import TABLES, PaperTable, all_tables
from cspbench.paper.suites import has_paper, suite_of
from cspbench.report.plots import inline_svg
from cspbench.report.section import SECTIONS, ReportContext, own_section

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: The paper's figure -> our figure in its form, and the suites that it is drawn from.
FIGURES_OF: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("fps_ap50", ("paper-table4", "paper-table5")),
    4: ("gamma_fusion", ("paper-table1",)),
    7: ("layer_bflops", ("paper-figure7",)),
    8: ("layer_io", ("paper-figure8",)),
}


class Head(NamedTuple):
    """A column of a table."""

    title: str
    origin: str
    kind: str


class TableView(NamedTuple):
    """A table of the paper as text; a row is the system, its model id, and the other cells."""

    number: int
    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    notes: tuple[str, ...]


class FigureView(NamedTuple):
    """A figure of the paper, or the reason why it is not there."""

    number: int
    title: str
    shows: str
    origins: tuple[Origin, ...]
    svg: Markup
    missing: str


def data(context: ReportContext) -> Mapping[str, Any]:
    """Tables and figures of the paper, published beside ours."""
    evidence = from_runs(context.runs)
    tables, missing = [], []
    for table in all_tables(evidence):
        if any(model in evidence.analyses for model in table.models):
            whole = TABLES[table.number](with_analyses(evidence, table.models))
            tables.append(_table(whole))
        else:
            missing.append(table.number)
    figures = [_figure(number, context.runs) for number in FIGURES_OF]
    return {
        "tables": tables,
        "missing_tables": missing,
        "figures": [figure for figure in figures if not figure.missing],
        "missing_figures": [figure for figure in figures if figure.missing],
    }


def _table(table: PaperTable) -> TableView:
    first, *others = table.columns
    rows = tuple(
        (
            plain(table.cell(row, first)),
            plain(row["model"] or ""),
            tuple(plain(table.cell(row, column)) for column in others),
        )
        for row in table.rows
    )
    heads = tuple(
        Head(column.title, column.origin, "num" if column.number else "")
        for column in table.columns
    )
    return TableView(table.number, table.title, heads, rows, tuple(map(plain, table.notes)))


def _figure(number: int, runs: Sequence[Run]) -> FigureView:
    name, suites = FIGURES_OF[number]
    spec = FIGURES.get(name)
    svg, missing = Markup(), ""
    chosen = [run for run in runs if suite_of(run) in suites]
    try:
        if not chosen:
            raise NoDataError(f"these runs are not of {' or '.join(suites)}")
        svg = inline_svg(spec, chosen, f"paper_{name}", f"Figure {number}: {spec.title}")
    except NoDataError as reason:
        missing = plain(reason)
    return FigureView(number, spec.title, spec.shows, spec.origins, svg, missing)


SECTIONS.add(
    own_section(
        __file__, 15, "The paper’s tables and figures", data, name="paper-tables",
        title="The paper: tables",
        applies=lambda context: has_paper(context.runs),
    )
)  # fmt: skip
