"""The report's part on the paper: checklist of claims, Tables 1 to 5, Figures 1, 4, 7 and 8.

It is there when the runs hold one of the suites of ``suites/paper``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from cspbench.figures.cases import plain
from cspbench.figures.spec import Origin
from cspbench.paper.evidence import from_runs
from cspbench.paper.outcome import VERDICTS, Verdict
from cspbench.paper.reproduced import PaperTable, all_tables
from cspbench.paper.verdicts import Finding, check_all

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: How the names of the suites of ``suites/paper`` begin.
PREFIX = "paper-"
TITLE = "The CSPNet paper on this machine"

#: Sign and class of each verdict: they differ in shape, not only in colour.
SIGNS: dict[Verdict, tuple[str, str]] = {
    "reproduced": ("✓", "good"),
    "not reproduced": ("✕", "bad"),
    "not distinguishable here": ("≈", "warn"),
    "reconstruction only": ("◐", "note"),
    "not testable here": ("–", "soft"),
}
GROUPS = {
    "computation": "Computation",
    "memory": "Memory and memory traffic",
    "speed": "Speed",
    "accuracy": "Accuracy",
}
#: The paper's figure -> our figure in its form, and the suites that it is drawn from.
FIGURES_OF: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("fps_ap50", ("paper-table4", "paper-table5")),
    4: ("gamma_fusion", ("paper-table1",)),
    7: ("layer_bflops", ("paper-figure7",)),
    8: ("layer_io", ("paper-figure8",)),
}


class Count(NamedTuple):
    """How many claims have a verdict."""

    verdict: Verdict
    sign: str
    kind: str
    claims: int
    meaning: str


class ClaimLine(NamedTuple):
    """A claim as the page shows it; every text is safe to print."""

    name: str
    verdict: str
    sign: str
    kind: str
    statement: str
    place: str
    published: str
    here: str
    origin: str
    reason: str
    note: str
    rule: str
    used: tuple[str, ...]


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


class PaperPart(NamedTuple):
    """The whole part."""

    counts: tuple[Count, ...]
    groups: tuple[tuple[str, tuple[ClaimLine, ...]], ...]
    tables: tuple[TableView, ...]
    figures: tuple[FigureView, ...]


def paper_part(runs: Sequence[Run]) -> PaperPart | None:
    """The part, or None if no run is one of the paper's suites."""
    if not has_paper(runs):
        return None
    evidence = from_runs(runs)
    findings = check_all(evidence)
    return PaperPart(
        counts=_counts(findings),
        groups=tuple(
            (title, tuple(_line(found) for found in findings if found.claim.group == group))
            for group, title in GROUPS.items()
        ),
        tables=tuple(_table(table) for table in all_tables(evidence)),
        figures=tuple(_figure(number, runs) for number in FIGURES_OF),
    )


def has_paper(runs: Sequence[Run]) -> bool:
    """True if one of the runs is of a suite of the paper."""
    return any(_is_paper(run) for run in runs)


def heading(runs: Sequence[Run], cpu: str) -> dict[str, Any]:
    """``title`` and ``lead`` of a page about the paper; empty if it has other runs too."""
    if not all(_is_paper(run) for run in runs):
        return {}
    suites = ", ".join(dict.fromkeys(plain(_suite(run).removeprefix(PREFIX)) for run in runs))
    created = plain(runs[0].stored.meta["created"])[:10]
    return {
        "title": TITLE,
        "lead": f"arXiv 1911.11929 held against {cpu}, {created}. Measured: {suites}.",
    }


def _suite(run: Run) -> str:
    return str(run.stored.meta["suite"]["name"])


def _is_paper(run: Run) -> bool:
    return _suite(run).startswith(PREFIX)


def _counts(findings: Sequence[Finding]) -> tuple[Count, ...]:
    return tuple(
        Count(
            verdict, sign, kind, sum(found.verdict == verdict for found in findings),
            VERDICTS[verdict],
        )
        for verdict, (sign, kind) in SIGNS.items()
    )  # fmt: skip


def _line(found: Finding) -> ClaimLine:
    sign, kind = SIGNS[found.verdict]
    claim, outcome = found.claim, found.outcome
    return ClaimLine(
        name=claim.name, verdict=found.verdict, sign=sign, kind=kind, statement=claim.text,
        place=claim.place, published=outcome.published, here=plain(found.ours),
        origin=outcome.origin, reason=plain(found.reason), note=outcome.note,
        rule=f"{outcome.rule[:1].upper()}{outcome.rule[1:]}",
        used=tuple(plain(one) for one in outcome.used),
    )  # fmt: skip


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
    from cspbench.figures import style
    from cspbench.figures.spec import FIGURES, NoDataError
    from cspbench.figures.svg import inline

    name, suites = FIGURES_OF[number]
    spec = FIGURES.get(name)
    svg, missing = "", ""
    chosen = [run for run in runs if _suite(run) in suites]
    try:
        if not chosen:
            raise NoDataError(f"these runs are not of {' or '.join(suites)}")
        own = f"paper_{name}"
        drawn = style.svg_bytes(spec.draw(chosen), own)
        svg = inline(drawn, own, f"Figure {number}: {spec.title}", spec.shows)
    except NoDataError as reason:
        missing = plain(reason)
    # ElementTree escaped every text; matplotlib and we wrote the rest.
    return FigureView(
        number, spec.title, spec.shows, spec.origins, Markup(svg), missing  # noqa: S704
    )  # fmt: skip
