"""What a section of the report is, its data, and the registry of all sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.registry import Registry
from cspbench.figures.cases import plain

if TYPE_CHECKING:
    from cspbench.report.definitions import Definition
    from cspbench.report.rows import CaseRow
    from cspbench.views.frames import Run

#: A row of a section's table as text, by the names that its template uses.
Line = dict[str, str]


@dataclass(frozen=True)
class ReportContext:
    """The data of a section.

    Attributes:
        stored: the runs as they were loaded.
        runs: the same runs as one view a board; without a fleet they are the stored ones.
        rows: the cases of all views, in plan order; their texts are safe to print.
        stem: name of the page's file without its suffix.
    """

    stored: Sequence[Run]
    runs: Sequence[Run]
    rows: Sequence[CaseRow]
    stem: str

    @property
    def measured(self) -> list[CaseRow]:
        """The cases that have been measured."""
        return [row for row in self.rows if row.outcome == "measured"]

    @property
    def machine(self) -> str:
        """What measured the first run: its processor, or how many boards."""
        environment = self.stored[0].environment
        boards = environment.get("boards")
        where = f"{len(boards)} boards" if boards else "an unknown processor"
        return plain(environment.get("cpu") or where)


def _always(_context: ReportContext) -> bool:
    return True


@dataclass(frozen=True)
class SectionSpec:
    """A section of the report by name.

    The page writes the frame, the heading and the figures that name this section; the template
    writes what lies between.

    Attributes:
        name: anchor of the section in the page (``report.html#memory``).
        heading: its heading.
        title: its name in the table of contents.
        order: place in the page; cspbench's own sections are at 10, 20, and so on.
        data: names that the template uses, with their values.
        template: a Jinja template, or the file that holds one. Every text is escaped. It has the
            macros ``table``, ``origin`` and ``marked`` (``report/templates/macros.html``), the
            filter ``breakable`` and the ``definitions`` of all numbers by name.
        applies: whether the page has this section.
        count: the number that stands beside the title, if any.
        style: file of a style sheet for this section.
        head: ``title`` and ``lead`` of a page that is about this section alone; empty for others.
        definitions: definitions of the numbers that only this section prints.
    """

    name: str
    heading: str
    title: str
    order: int
    data: Callable[[ReportContext], Mapping[str, Any]] = field(compare=False)
    template: str | Path
    applies: Callable[[ReportContext], bool] = field(compare=False, default=_always)
    count: Callable[[ReportContext], int] | None = field(compare=False, default=None)
    style: Path | None = None
    head: Callable[[ReportContext], Mapping[str, str]] | None = field(compare=False, default=None)
    definitions: tuple[Definition, ...] = ()

    def source(self) -> str:
        """Text of the template."""
        template = self.template
        return template if isinstance(template, str) else template.read_text(encoding="utf-8")


def own_section(
    file: str,
    order: int,
    heading: str,
    data: Callable[[ReportContext], Mapping[str, Any]],
    *,
    name: str = "",
    title: str = "",
    **others: Any,
) -> SectionSpec:
    """A section of cspbench's own, whose template lies beside its file.

    Without a ``name`` it has that of the file; without a ``title`` the heading stands in the table
    of contents too.
    """
    path, title = Path(file), title or heading
    template = path.with_suffix(".html")
    return SectionSpec(name or path.stem, heading, title, order, data, template, **others)


SECTIONS: Registry[SectionSpec] = Registry(
    "section", ("cspbench.report.sections", "cspbench.paper.sections"), "cspbench.sections"
)
