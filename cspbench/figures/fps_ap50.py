"""Speed against accuracy, in the form of the CSPNet paper's Fig. 1.

A panel a setting with measured fps and published AP50, and a panel of its own with published fps
of the paper's GPU: the two kinds of fps never share an axis.
"""

from __future__ import annotations

import bisect
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench import literature
from cspbench.core.case import Case
from cspbench.figures import sizes, style
from cspbench.figures.cases import (
    family,
    fps_interval,
    in_order,
    measured,
    model_label,
    setting_label,
    shorten,
)
from cspbench.figures.labels import along, label_points
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import mark_points
from cspbench.literature.by_model import published_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

#: More panels cannot be read; what is left out is said.
MAX_SETTINGS = 5
#: So many settings may show a single point each.
MOST_ALONE = 2
#: Where the paper divides its detectors by speed.
FPS_CLASSES = (30, 100, 200)
FPS_CLASS_NAMES = ("below 30", "30 to 100", "100 to 200", "200 and above")
#: Published families that are all slower than this lie too close to be named one by one.
CROWD_FPS = 60


@dataclass(frozen=True)
class Point:
    """One network in one setting: measured fps with its 95 % interval, published AP50."""

    case: str
    label: str
    family: str
    setting: str
    fps: float
    low: float | None
    high: float | None
    ap50: float
    run: str = ""


def fps_ap50_data(cases: pd.DataFrame, ap50: Mapping[str, float]) -> list[Point]:
    """Points of the measured cases whose model id (``name@input``) has a published AP50."""
    points = []
    for row in cases.to_dict(orient="records"):
        case = Case.parse(row["id"])
        value = ap50.get(str(case.model_id))
        if value is not None:
            points.append(
                Point(
                    row["id"],
                    model_label(row["id"]).split("@")[0],
                    family(case.model.name),
                    setting_label(row["id"]),
                    row["fps"],
                    *fps_interval(row),
                    ap50=value,
                    run=row.get("run", ""),
                )
            )
    return points


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both coordinates, by falling first coordinate.

    Of equal points one stays; a point that only equals another in one coordinate and is worse in
    the other is beaten.
    """
    front: list[tuple[float, float]] = []
    for fps, ap50 in sorted(set(points), reverse=True):
        if not front or ap50 > front[-1][1]:
            front.append((fps, ap50))
    return front


def fps_class(fps: float) -> str:
    """The paper's speed class; one that begins at 30 fps holds exactly 30, too."""
    return FPS_CLASS_NAMES[bisect.bisect(FPS_CLASSES, fps)]


def chosen_settings(points: Sequence[Point]) -> list[str]:
    """The settings with most networks, up to a number, in the order of the points."""
    count = Counter(point.setting for point in points)
    most = sorted(count, key=lambda setting: -count[setting])[:MAX_SETTINGS]
    return [setting for setting in count if setting in most]


@style.styled
def draw_fps_ap50(
    points: Sequence[Point], reference: Mapping[str, Sequence[tuple[float, float]]]
) -> Figure:
    """Panels of measured settings, then one of published (fps, AP50) by family, hollow marks."""
    settings = chosen_settings(points)
    families = in_order(point.family for point in points)
    panels = len(settings) + bool(reference)
    columns = sizes.columns(2) if panels > 1 else 1
    rows = -(-panels // columns)
    figure = style.new_figure(10.0, 0.5 + 3.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    values = [point.ap50 for point in points]
    for axes, setting in zip(grid, settings, strict=False):
        _measured_panel(axes, setting, [p for p in points if p.setting == setting], families)
        axes.set_ylim(min(values) - 2.5, max(values) + 2.5)
    if reference:
        _published_panel(grid[len(settings)], reference)
    for axes in grid[panels:]:
        axes.set_visible(False)
    for axes in grid[:panels:columns]:
        axes.set_ylabel("AP50, %: published")
    if left_out := len({point.setting for point in points}) - len(settings):
        label = f"{grid[0].get_xlabel()}\n({left_out} more settings not drawn)"
        grid[0].set_xlabel(label)
    _legend(figure, families)
    style.freeze_layout(figure)
    for axes, setting in zip(grid, settings, strict=False):
        here = [p for p in points if p.setting == setting]
        lines = [sorted((p.fps, p.ap50) for p in here if p.family == name) for name in families]
        lines += [[(low, y), (high, y)] for y, low, high in filter(None, map(_interval, here))]
        label_points(
            figure, axes, [(p.fps, p.ap50) for p in here], [shorten(p.label, 30) for p in here],
            [*(point for line in lines for point in along(line)), *_class_names(axes)],
        )  # fmt: skip
    if reference:
        # "ours" are the paper's authors: on this page it would mean us.
        ends = {
            name.removesuffix(" (ours)"): max(line)
            for name, line in reference.items()
            if max(line)[0] >= CROWD_FPS
        }
        every = [point for line in reference.values() for point in (*line, *along(sorted(line)))]
        every += _class_names(grid[len(settings)])
        label_points(figure, grid[len(settings)], list(ends.values()), list(ends), every)
    return figure


def _measured_panel(
    axes: Axes, setting: str, points: Sequence[Point], families: Sequence[str]
) -> None:
    axes.set_title(setting)
    axes.set_xlabel("fps: measured here, with its 95 % interval")
    axes.set_xlim(0, 1.35 * max(point.fps for point in points))
    front = pareto_front([(point.fps, point.ap50) for point in points])
    if len(front) > 1:
        axes.plot(*zip(*front, strict=True), color=style.MUTED, linewidth=6, alpha=0.25, zorder=1)
    for index, name in enumerate(families):
        line = sorted((p for p in points if p.family == name), key=lambda point: point.fps)
        color, shape = style.color(index), style.marker(index)
        axes.plot([p.fps for p in line], [p.ap50 for p in line], linewidth=1.0, color=color)
        (marks,) = axes.plot([p.fps for p in line], [p.ap50 for p in line], shape, color=color)
        mark_points(marks, [(p.case, p.run) for p in line])
        style.draw_intervals(axes, [bounds for p in line if (bounds := _interval(p))], color)
    _class_lines(axes)


def _interval(point: Point) -> tuple[float, float, float] | None:
    """Its whisker: AP50, lowest and highest fps; None with a single launch."""
    if point.low is None or point.high is None:
        return None
    return point.ap50, point.low, point.high


def _class_lines(axes: Axes) -> None:
    _, right = axes.get_xlim()
    for boundary in FPS_CLASSES:
        if boundary < right:
            axes.axvline(boundary, color=style.INK, linewidth=0.8, linestyle=":", alpha=0.6)
            axes.annotate(
                f"{boundary} fps", (boundary, 1), (3, -2), xycoords=("data", "axes fraction"),
                textcoords="offset points", fontsize=8, va="top", alpha=0.8,
            )  # fmt: skip


def _class_names(axes: Axes) -> list[tuple[float, float]]:
    """Points of the panel on which names of speed classes stand."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return [
        (boundary + step * (right - left), top - 0.04 * (top - bottom))
        for boundary in FPS_CLASSES if boundary < right
        for step in (0.02, 0.05, 0.08, 0.11)
    ]  # fmt: skip


def _published_panel(axes: Axes, reference: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    axes.set_title("published: GTX 1080 Ti (the paper's Fig. 1)")
    axes.set_xlabel("fps: published, another device")
    for index, line in enumerate(map(sorted, reference.values())):
        color = style.BLUE if index == 0 else style.MUTED
        axes.plot(
            *zip(*line, strict=True), color=color, marker="D", markersize=5, linewidth=1.0,
            markerfacecolor="none", zorder=3 if index == 0 else 2,
        )  # fmt: skip
    crowd = [name for name, line in reference.items() if max(line)[0] < CROWD_FPS]
    if crowd:
        names = textwrap.fill(f"left of {CROWD_FPS} fps also {', '.join(crowd)}", 34)
        axes.annotate(
            names, (0.97, 0.9), xycoords="axes fraction", ha="right", va="top", fontsize=8
        )
    axes.set_xlim(0, 1.35 * max(fps for points in reference.values() for fps, _ in points))
    axes.margins(y=0.12)
    _class_lines(axes)


def _legend(figure: Figure, families: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.color(i), marker=style.marker(i), linewidth=1.0, label=name)
        for i, name in enumerate(families)
    ]
    handles.append(Line2D([], [], color=style.MUTED, linewidth=5, alpha=0.25, label="Pareto front"))
    handles.append(
        Line2D([], [], color=style.MUTED, marker="D", markersize=5, markerfacecolor="none",
               linewidth=1.0, label="published fps")
    )  # fmt: skip
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), sizes.columns(2) * 3)
    )


def _draw(runs: Sequence[Run]) -> Figure:
    cases = measured(runs)
    points = fps_ap50_data(cases, published_values("ap50_pct"))
    if not points:
        raise NoDataError("none of the measured networks has a published AP50")
    count = Counter(point.setting for point in points)
    if len(count) > MOST_ALONE and max(count.values()) < 2:
        raise NoDataError("no two networks with a published AP50 were measured in one setting")
    return draw_fps_ap50(points, literature.figure1())


FIGURES.add(
    FigureSpec(
        name="fps_ap50", title="Speed against accuracy",
        shows="Measured fps, with its 95 % interval, against published AP50, a line a family; up "
        "and to the right is better. The last panel is published, on another device: compare its "
        "shape, not its fps. Dotted lines divide the paper's speed classes.",
        origins=("measured", "published"), section="accuracy", draw=_draw,
    )
)  # fmt: skip
