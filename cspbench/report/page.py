"""The HTML report: one self-contained file, whole without its script, made from stored runs.

The page is a frame around sections; what a section is, ``section.py`` says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

import cspbench
from cspbench.core.files import write_output
from cspbench.core.garbage import without_collections
from cspbench.errors import InputError
from cspbench.figures.cases import labelled, plain
from cspbench.figures.spec import FIGURES
from cspbench.fleet.views import by_board
from cspbench.report.data import page_data, to_script
from cspbench.report.definitions import DEFINITIONS, ORIGIN_SYMBOLS
from cspbench.report.html import TEMPLATES, content_security_policy, read_style, templates
from cspbench.report.plots import Missing, draw_all
from cspbench.report.rows import case_rows
from cspbench.report.section import SECTIONS, ReportContext, SectionSpec

if TYPE_CHECKING:
    import jinja2

    from cspbench.views.frames import Run

#: The sentence of a section that has nothing to show.
_EMPTY = re.compile(r'<p class="empty">(.*?)</p>', re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A section as the page's frame needs it."""

    name: str
    heading: str
    title: str
    count: int | None
    body: Markup

    @property
    def body_text(self) -> str:
        """What the body holds besides a sentence that it is empty."""
        return _EMPTY.sub("", self.body).strip()

    @property
    def why_empty(self) -> str:
        """That sentence as text."""
        # A part of the body, whose texts are escaped.
        sentences = [Markup(text).striptags() for text in _EMPTY.findall(self.body)]  # noqa: S704
        return " ".join(sentences).rstrip(".")


@dataclass(frozen=True)
class LeftOut:
    """A section or a figure that the runs hold nothing for, and what they lack."""

    title: str
    reason: str


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write the report of ``runs`` as one HTML file and return its path.

    Raises:
        InputError: no runs, or the file cannot be written.
    """
    if not runs:
        raise InputError("a report needs at least one run")
    with without_collections():  # they would look through all samples again and again
        page = render(runs, path.stem)
    write_output(path, page, folder=True)
    return path


def render(runs: Sequence[Run], stem: str = "report") -> str:
    """The report as HTML text; the same runs give the same text."""
    with labelled(runs):
        return _render(runs, stem)


def _render(runs: Sequence[Run], stem: str) -> str:
    views = [view for run in runs for view in by_board(run)]
    context = ReportContext(runs, views, case_rows(views), stem)
    for figure in FIGURES:
        SECTIONS.get(figure.section)  # a figure of no section would be lost
    specs = sorted(SECTIONS, key=lambda spec: (spec.order, spec.name))
    present = [spec for spec in specs if spec.applies(context)]
    own = {one.name: one for spec in specs for one in spec.definitions}
    figures = draw_all(views)
    drawn = {plot.section for plot in figures["plots"]}
    environment = templates(
        {"definitions": DEFINITIONS | own, "symbols": ORIGIN_SYMBOLS, **figures}
    )
    sections = [_section(spec, context, environment) for spec in present]
    kept = [one for one in sections if one.body_text or one.name in drawn]
    css = read_style(spec.style for spec in present if spec.style)
    script = "".join(_text(TEMPLATES / name) for name in ("shared.js", "report.js", "layers.js"))
    page: dict[str, Any] = {
        "css": Markup(css),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "policy": content_security_policy(script, css),
        "data": Markup(to_script(page_data(views, context.rows, plain(stem)))),  # noqa: S704
        "sections": kept,
        "left_out": _left_out(sections, kept, figures["missing_plots"]),
        **_header(context),
    }
    for spec in present:
        page |= spec.head(context) if spec.head else {}
    return environment.get_template("report.html").render(page)


def _left_out(
    sections: Sequence[Section], kept: Sequence[Section], missing: Sequence[tuple[str, Missing]]
) -> list[LeftOut]:
    """Sections and figures without data, each with its reason; a section stands for its figures."""
    names = {one.name for one in kept}
    found = []
    for one in (one for one in sections if one.name not in names):
        reasons = dict.fromkeys(why.text for _, why in missing if why.section == one.name)
        found.append(LeftOut(one.heading, one.why_empty or "; ".join(reasons)))
    return found + [
        LeftOut(f"the figure “{title}”", reason.text)
        for title, reason in missing
        if reason.section in names
    ]


def _section(spec: SectionSpec, context: ReportContext, environment: jinja2.Environment) -> Section:
    body = environment.from_string(spec.source()).render(spec.data(context))
    count = spec.count(context) if spec.count else None
    # The template has escaped every text.
    return Section(spec.name, spec.heading, spec.title, count, Markup(body))  # noqa: S704


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _named(runs: Sequence[str], title: str) -> str:
    """Names of the runs, unless the title is the name of the only one."""
    return "" if list(runs) == [title] else f" Run {', '.join(runs)}."


def _sentence(text: str) -> str:
    """The text with a capital letter first, unless it begins with an id."""
    first, _, _ = text.partition(" ")
    return text if "@" in first else f"{text[:1].upper()}{text[1:]}"


def _header(context: ReportContext) -> dict[str, str]:
    first = context.stored[0].stored.meta
    names = [plain(run.name) for run in context.stored]
    name = plain(first["suite"]["name"])
    about = plain(first["suite"]["description"]) or f"suite {name}"
    return {
        "title": ", ".join(names) if len(names) > 1 else name,
        "lead": f"{_sentence(about)}. {context.machine}, "
        f"{plain(first['created'])[:10]}.{_named(names, name)}",
        "lead_runs": f"run {names[0]}" if len(names) == 1 else f"{len(names)} runs",
        "version": cspbench.__version__,
    }
