"""Measured fps, in the form of the CSPNet paper's Table 5: a row a network, a panel a backend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

#: More rows or panels cannot be read; what is left out is said.
MAX_MODELS = 24
MAX_SETTINGS = 4
#: The axis ends here, in units of the longest bar; a wider interval leaves the panel.
TOP = 1.3


@dataclass(frozen=True)
class Bar:
    """One measured case: fps with its 95 % interval (None with a single launch)."""

    case: str
    model: str
    setting: str
    fps: float
    low: float | None
    high: float | None
    csp: bool
    run: str = ""


@dataclass(frozen=True)
class FpsBars:
    """Bars with their rows (networks, fastest first) and panels (settings, in plan order)."""

    models: tuple[str, ...]
    settings: tuple[str, ...]
    bars: tuple[Bar, ...]
    left_out: int


def fps_bars_data(cases: pd.DataFrame) -> FpsBars:
    """Make bars of the case rows that have an fps.

    Rows are sorted by the best fps of the network on any backend.
    """
    bars = [
        Bar(
            row["id"],
            model_label(row["id"]),
            setting_label(row["id"]),
            row["fps"],
            *fps_interval(row),
            csp=is_csp(row["id"]),
            run=row.get("run", ""),
        )
        for row in cases.to_dict(orient="records")
        if not math.isnan(row["fps"])
    ]
    best: dict[str, float] = {}
    for bar in bars:
        best[bar.model] = max(bar.fps, best.get(bar.model, 0.0))
    models = sorted(best, key=lambda model: (-best[model], model))[:MAX_MODELS]
    settings = in_order(bar.setting for bar in bars)[:MAX_SETTINGS]
    kept = tuple(bar for bar in bars if bar.model in models and bar.setting in settings)
    return FpsBars(tuple(models), tuple(settings), kept, len(bars) - len(kept))


@style.styled
def draw_fps_bars(data: FpsBars) -> Figure:
    """Horizontal bars, a panel a setting; filled bars are CSP networks."""
    panels = len(data.settings)
    figure = style.new_figure(10.0, 1.35 + 0.34 * len(data.models))
    grid = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    rows = {model: -index for index, model in enumerate(data.models)}
    for axes, setting in zip(grid, data.settings, strict=True):
        _panel(axes, setting, [bar for bar in data.bars if bar.setting == setting], rows)
    grid[0].set_yticks(list(rows.values()), list(rows))
    _legend(figure)
    if data.left_out:
        grid[0].set_xlabel(f"{grid[0].get_xlabel()}  ({data.left_out} more cases not drawn)")
    return figure


def _panel(axes: Axes, setting: str, bars: Sequence[Bar], rows: dict[str, int]) -> None:
    axes.set_title(setting, fontsize=10)
    style.only_grid(axes, "x")
    axes.set_xlabel("fps, measured")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, TOP * max((bar.fps for bar in bars), default=1.0))
    axes.set_ylim(min(rows.values()) - 0.6, 0.6)
    for bar in bars:
        y = rows[bar.model]
        (patch,) = axes.barh(y, bar.fps, height=0.62, color=style.BLUE if bar.csp else style.MUTED)
        mark_case(patch, bar.case, bar.run)
        axes.annotate(
            number(bar.fps), (1, y), (9, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    style.draw_intervals(axes, [
        (rows[bar.model], bar.low, bar.high)
        for bar in bars if bar.low is not None and bar.high is not None
    ])  # fmt: skip


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=style.BLUE, label="cross stage partial (CSP) network"),
        Patch(color=style.MUTED, label="other network"),
        Line2D([], [], color=style.INK, marker="|", markersize=8, label="95 % interval"),
    ]
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
        "longer is faster. The form is that of the paper's Table 5.",
        origins=("measured",), section="cases", draw=_draw,
    )
)  # fmt: skip
