"""All registered figures of the runs as inline SVG, and for the others the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from cspbench.figures import style
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import inline

if TYPE_CHECKING:
    from cspbench.views.frames import Run


class Plot(NamedTuple):
    """A drawn figure."""

    name: str
    title: str
    shows: str
    section: str
    origins: tuple[str, ...]
    svg: Markup


class Missing(NamedTuple):
    """Why a figure is not there."""

    section: str
    text: str


def draw_all(runs: Sequence[Run]) -> dict[str, Any]:
    """Return ``plots`` (drawn figures) and ``missing_plots`` ((title, reason) pairs), in order."""
    plots: list[Plot] = []
    missing: list[tuple[str, Missing]] = []
    for spec in sorted(FIGURES, key=lambda spec: (spec.order, spec.name)):
        try:
            svg = inline_svg(spec, runs, spec.name, spec.title)
        except NoDataError as reason:
            missing.append((spec.title, Missing(spec.section, str(reason))))
            continue
        plots.append(Plot(spec.name, spec.title, spec.shows, spec.section, spec.origins, svg))
    return {"plots": plots, "missing_plots": missing}


def inline_svg(spec: FigureSpec, runs: Sequence[Run], name: str, title: str) -> Markup:
    """Draw a figure as an element of the page, its ids under ``name``.

    Raises:
        NoDataError: the runs do not hold what it needs.
    """
    svg = inline(style.svg_bytes(spec.draw(runs), name), name, title, spec.shows)
    # ElementTree escaped every text; matplotlib and we wrote the rest.
    return Markup(svg)  # noqa: S704
