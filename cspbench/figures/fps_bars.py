"""Measured fps, in the form of the CSPNet paper's Table 5: a row a network, a panel a backend.

Where there are more engines than networks it is a row an engine and a panel a network, so that
engines stand on one axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench.figures import style
from cspbench.figures.cases import (
    fps_interval,
    in_order,
    is_csp,
    measured,
    model_label,
    number,
    setting_label,
)
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import mark_case

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

#: More rows or panels cannot be read; what is left out is said.
MAX_ROWS = 24
MAX_PANELS = 8
#: Panels side by side, and how much of a title has room above one.
ABREAST, TITLE_LENGTH = 4, 24
#: The axis ends here, in units of the longest bar; a wider interval leaves the panel.
TOP = 1.3
#: Bars of one panel that differ by more than this would vanish on a linear axis.
LINEAR_SPAN = 30.0


@dataclass(frozen=True)
class Bar:
    """One measured case: fps with its 95 % interval (None with a single launch)."""

    case: str
    row: str
    panel: str
    fps: float
    low: float | None
    high: float | None
    csp: bool
    run: str = ""


@dataclass(frozen=True)
class FpsBars:
    """Bars with their rows (fastest first) and panels (in plan order).

    Rows are networks and panels are settings, or the other way round.
    """

    rows: tuple[str, ...]
    panels: tuple[str, ...]
    bars: tuple[Bar, ...]
    left_out: int


def fps_bars_data(cases: pd.DataFrame) -> FpsBars:
    """Make bars of the case rows that have an fps.

    Rows are sorted by the best fps in any panel.
    """
    found = [row for row in cases.to_dict(orient="records") if not math.isnan(row["fps"])]
    networks, settings = (
        {label(row["id"]) for row in found} for label in (model_label, setting_label)
    )
    by_network = len(settings) > len(networks) or len(networks) == 1
    bars = [_bar(row, by_network=by_network) for row in found]
    best: dict[str, float] = {}
    for bar in bars:
        best[bar.row] = max(bar.fps, best.get(bar.row, 0.0))
    rows = sorted(best, key=lambda row: (-best[row], row))[:MAX_ROWS]
    panels = in_order(bar.panel for bar in bars)[:MAX_PANELS]
    kept = tuple(bar for bar in bars if bar.row in rows and bar.panel in panels)
    return FpsBars(tuple(rows), tuple(panels), kept, len(bars) - len(kept))


def _bar(row: Mapping[Any, Any], *, by_network: bool) -> Bar:
    network, setting = model_label(row["id"]), setting_label(row["id"])
    name, panel = (setting, network) if by_network else (network, setting)
    return Bar(
        row["id"], name, panel, row["fps"], *fps_interval(row),
        csp=is_csp(row["id"]), run=row.get("run", ""),
    )  # fmt: skip


@style.styled
def draw_fps_bars(data: FpsBars) -> Figure:
    """Horizontal bars in panels; where networks differ in it, filled bars are CSP networks."""
    across = min(len(data.panels), ABREAST)
    down = -(-len(data.panels) // ABREAST)
    figure = style.new_figure(10.0, 1.05 + down * (0.3 + 0.34 * len(data.rows)))
    grid = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    rows = {name: -index for index, name in enumerate(data.rows)}
    for axes, panel in zip(grid, data.panels, strict=False):
        _panel(axes, panel, [bar for bar in data.bars if bar.panel == panel], rows)
    for axes in grid[len(data.panels) :]:
        axes.set_axis_off()
    first = grid[0]
    first.set_yticks(list(rows.values()), list(rows))
    _legend(figure, data.bars)
    if data.left_out:
        first.set_xlabel(f"{first.get_xlabel()}  ({data.left_out} more cases not drawn)")
    return figure


def _panel(axes: Axes, title: str, bars: Sequence[Bar], rows: dict[str, int]) -> None:
    long = len(title) > TITLE_LENGTH
    axes.set_title(title.replace("@", "\n@", 1) if long else title, fontsize=10)
    style.only_grid(axes, "x")
    axes.set_xlabel("fps, measured")
    axes.tick_params(axis="y", length=0)
    rates = [bar.fps for bar in bars] or [1.0]
    if max(rates) > LINEAR_SPAN * min(rates):
        axes.set_xscale("log")
        axes.set_xlabel("fps, measured (logarithmic)")
        axes.set_xlim(min(rates) / 2, TOP * max(rates))
    else:
        axes.set_xlim(0, TOP * max(rates))
    axes.set_ylim(min(rows.values()) - 0.6, 0.6)
    for bar in bars:
        y = rows[bar.row]
        (patch,) = axes.barh(y, bar.fps, height=0.62, color=style.BLUE if bar.csp else style.MUTED)
        mark_case(patch, bar.case, bar.run)
        axes.annotate(
            number(bar.fps), (1, y), (9, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    style.draw_intervals(axes, [
        (rows[bar.row], bar.low, bar.high)
        for bar in bars if bar.low is not None and bar.high is not None
    ])  # fmt: skip


def _legend(figure: Figure, bars: Sequence[Bar]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    if len({bar.csp for bar in bars}) > 1:
        handles = [
            Patch(color=style.BLUE, label="cross stage partial (CSP) network"),
            Patch(color=style.MUTED, label="other network"),
        ]
    if any(bar.low is not None for bar in bars):
        line = Line2D([], [], color=style.INK, marker="|", markersize=8, label="95 % interval")
        handles.append(line)
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=3)


def _draw(runs: Sequence[Run]) -> Figure:
    cases = measured(runs)
    if cases.empty:
        raise NoDataError("no case was measured")
    return draw_fps_bars(fps_bars_data(cases))


FIGURES.add(
    FigureSpec(
        name="fps_bars", title="Measured speed by backend",
        shows="Frames per second of every network on every backend, with 95 % intervals; "
        "longer is faster. The form of several networks is that of the paper's Table 5.",
        origins=("measured",), section="cases", draw=_draw,
    )
)  # fmt: skip
