"""Roofline: what was measured, and what is predicted of the layers, under the device's ceilings.

Williams, Waterman, Patterson (2009), doi 10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cspbench.analysis import Analysis, roofline
from cspbench.core.case import Case
from cspbench.figures import style
from cspbench.figures.cases import (
    fps_interval,
    in_order,
    measured,
    model_label,
    number,
    plain,
    setting_label,
    shorten,
)
from cspbench.figures.choice import choose_models
from cspbench.figures.labels import label_points
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import mark_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_PANELS = 3
#: Of a legend.
LETTERS_AN_INCH = 16
#: Heights of a panel's axes, and of a line of text on it.
AXES_INCHES, LABEL_INCHES = 2.9, 0.16


@dataclass(frozen=True)
class RooflinePoint:
    """Something that runs: FLOPs a byte of fused traffic, and GFLOP/s.

    ``name`` is a case's id or a layer's path, ``setting`` where a case runs and ``run`` the name of
    its run ("" for a layer). ``low`` and ``high`` are the 95 % interval of a case's GFLOP/s.
    """

    name: str
    setting: str
    intensity: float
    gflops: float
    run: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Roof:
    """The ceilings of a device at a number of threads that bound predictions."""

    device: str
    gflops: float
    bandwidth_gbs: float

    def at(self, intensity: float) -> float:
        """GFLOP/s that are possible at an intensity in FLOP/byte."""
        return min(self.gflops, self.bandwidth_gbs * intensity)


@dataclass(frozen=True)
class Panel:
    """A roof with its measured cases, and the predicted layers of ``model``.

    ``ceilings`` are the fields of ``store.ceilings.Ceilings``.
    """

    roof: Roof
    ceilings: Mapping[str, Any]
    cases: tuple[RooflinePoint, ...]
    model: str
    layers: tuple[RooflinePoint, ...]


def ceilings_of(run: Run, case_id: str) -> tuple[str, Mapping[str, Any] | None]:
    """``device/t<threads>`` of a case ("" for an unknown backend), and its stored ceilings."""
    return run.ceilings(case_id)


def roof_of(device: str, ceilings: Mapping[str, Any]) -> Roof:
    """The roof that stored ceilings make."""
    return Roof(
        device,
        ceilings["gflops"][roofline.PRECISION],
        ceilings["bandwidth_gbs"][roofline.BANDWIDTH],
    )


def point_of(
    case_id: str, batch: int, latency_ms: float, totals: Mapping[str, Any]
) -> RooflinePoint | None:
    """A measured case: 2 x MACs x batch / latency over the intensity of one image.

    ``totals`` are an analysis's at batch 1; None if they say nothing of FLOPs or traffic.
    """
    flops, moved = totals.get("flops") or 0, totals.get("traffic_bytes_fused") or 0
    if flops < 1 or moved < 1:
        return None
    rate = flops * batch / (latency_ms * 1e-3) / 1e9
    return RooflinePoint(case_id, setting_label(case_id), flops / moved, rate)


def highest(points: Sequence[RooflinePoint]) -> list[RooflinePoint]:
    """The fastest point of every network: the one that is labelled."""
    best: dict[str, RooflinePoint] = {}
    for point in points:
        name = model_label(point.name)
        if name not in best or point.gflops > best[name].gflops:
            best[name] = point
    return list(best.values())


def layer_points(analysis: Analysis, ceilings: Mapping[str, Any]) -> tuple[RooflinePoint, ...]:
    """The layers that compute, each at the rate that the roofline and its overhead predict."""
    rows = roofline.layer_rows(analysis, roofline.peak_of(ceilings))
    return tuple(
        RooflinePoint(
            row["name"], "", row["intensity"], row["flops"] / (row["predicted_ms"] * 1e-3) / 1e9
        )
        for row in rows
        if row["flops"]
    )


def roofline_data(runs: Sequence[Run]) -> list[Panel]:
    """One panel a device and number of threads of which ceilings and a case are known."""
    panels: dict[str, tuple[Mapping[str, Any], dict[str, RooflinePoint]]] = {}
    analyses: dict[str, Analysis] = {}
    for run in runs:
        for row in measured([run]).to_dict(orient="records"):
            key, ceilings = ceilings_of(run, row["id"])
            model = str(Case.parse(row["id"]).model_id)
            if ceilings is None or row["batch"] != 1 or model not in run.analyses:
                continue
            analyses[model] = run.analyses[model]
            point = point_of(row["id"], 1, row["latency_ms"], analyses[model].totals)
            if point is not None:
                points = panels.setdefault(key, (ceilings, {}))[1]
                low, high = (
                    None if fps is None else point.gflops * fps / row["fps"]
                    for fps in fps_interval(row)
                )
                points[row["id"]] = replace(point, run=row["run"], low=low, high=high)
    drawn = []
    for key, (ceilings, points) in list(panels.items())[:MAX_PANELS]:
        [model] = choose_models(in_order(str(Case.parse(case).model_id) for case in points), 1)
        layers = layer_points(analyses[model], ceilings)
        drawn.append(Panel(roof_of(key, ceilings), ceilings, tuple(points.values()), model, layers))
    return drawn


@style.styled
def draw_roofline(panels: Sequence[Panel]) -> Figure:
    """A panel a device; ceilings are lines, cases large marks, predicted layers small dots."""
    figure = style.new_figure(10.0, 0.6 + 3.9 * len(panels))
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    settings = in_order(point.setting for panel in panels for point in panel.cases)
    handles: dict[str, Any] = {}
    for axes, panel in zip(grid, panels, strict=True):
        _panel(axes, panel, settings)
        lines, names = axes.get_legend_handles_labels()
        handles |= dict(zip(names, lines, strict=True))
    room = int(figure.get_figwidth() * LETTERS_AN_INCH / (max(map(len, handles)) + 8))
    figure.legend(
        handles=list(handles.values()), labels=list(handles), loc="outside upper left",
        ncols=max(1, min(4, room)),
    )  # fmt: skip
    style.freeze_layout(figure)
    for axes, panel in zip(grid, panels, strict=True):
        best = highest(panel.cases)
        label_points(
            figure, axes, [(point.intensity, point.gflops) for point in best],
            [model_label(point.name) for point in best],
            [(point.intensity, point.gflops) for point in (*panel.cases, *panel.layers)]
            + [
                (axes.get_xlim()[1] * part, rate * 1.1)
                for rate in panel.ceilings["gflops"].values() for part in (0.45, 0.6, 0.75, 0.9)
            ],
        )  # fmt: skip
    return figure


def _panel(axes: Axes, panel: Panel, settings: Sequence[str]) -> None:
    points = (*panel.cases, *panel.layers)
    ridge = panel.roof.gflops / panel.roof.bandwidth_gbs
    left = min(ridge, *(point.intensity for point in points)) / 2
    right = max(ridge, *(point.intensity for point in points)) * 4
    style.log_scales(axes)
    slopes = _ceilings(axes, panel, left, right)
    axes.plot(
        [point.intensity for point in panel.layers], [point.gflops for point in panel.layers],
        ".", color=style.MUTED, markersize=4, label="layer, predicted", zorder=2,
    )  # fmt: skip
    for index, setting in enumerate(settings):
        here = [point for point in panel.cases if point.setting == setting]
        if here:
            [marks] = axes.plot(
                [point.intensity for point in here], [point.gflops for point in here],
                style.marker(index), color=style.color(index), zorder=3,
                label=f"{setting}, measured",
            )  # fmt: skip
            mark_points(marks, [(point.name, point.run) for point in here])
            bars = [(p.intensity, p.low, p.high) for p in here if p.low and p.high]
            for intensity, low, high in bars:
                axes.vlines(intensity, low, high, color=style.color(index), linewidth=1.0, zorder=2)
    axes.set_xlim(left, right)
    _name_slopes(axes, slopes, left)
    axes.set_title(f"{panel.roof.device}; layers of {shorten(plain(panel.model))}", fontsize=10)
    axes.set_xlabel("FLOP/byte of fused traffic, computed")
    axes.set_ylabel("GFLOP/s")


def _ceilings(axes: Axes, panel: Panel, left: float, right: float) -> dict[str, float]:
    """Draw the roof in ink; caches and other precisions thin and dashed. Return the slopes."""
    roof, rates = panel.roof, panel.ceilings["gflops"]
    caches = panel.ceilings.get("cache_bandwidth_gbs", {})
    slopes = {f"memory, {roofline.BANDWIDTH}": roof.bandwidth_gbs}
    slopes |= {f"{level} copy": rate for level, rate in caches.items()}
    for index, rate in enumerate(slopes.values()):
        top = roof.gflops if index == 0 else max(rates.values())
        end = min(max(top / rate, left), right)
        axes.plot([left, end], [left * rate, end * rate], **_line(index == 0))
    for name, rate in rates.items():
        start = min(rate / roof.bandwidth_gbs, right)
        axes.plot([start, right], [rate, rate], **_line(name == roofline.PRECISION))
        axes.annotate(
            f"{plain(name)} {number(rate)} GFLOP/s", (right, rate), (-3, 3),
            textcoords="offset points", fontsize=8, ha="right", va="bottom",
        )  # fmt: skip
    return slopes


def _name_slopes(axes: Axes, slopes: Mapping[str, float], left: float) -> None:
    """Name the slopes at the left edge, in their order; the names of near ones are moved apart."""
    low, high = axes.get_ylim()
    least = (high / low) ** (LABEL_INCHES / AXES_INCHES)
    height = 0.0
    for name, rate in sorted(slopes.items(), key=lambda pair: pair[1]):
        height = max(left * rate, height * least)
        axes.annotate(
            f"{plain(name)} {number(rate)} GB/s", (left, height), (3, 3),
            textcoords="offset points", fontsize=8, va="bottom",
        )  # fmt: skip


def _line(main: bool) -> dict[str, Any]:
    if main:
        return {"color": style.INK, "linewidth": 1.4, "label": "ceiling, measured", "zorder": 1}
    return {"color": style.MUTED, "linewidth": 0.9, "linestyle": style.LINES[1], "zorder": 1}


def _draw(runs: Sequence[Run]) -> Figure:
    if not any(run.stored.meta.get("ceilings") for run in runs):
        raise NoDataError("no ceilings are stored in these runs: cspbench ceilings measures them")
    panels = roofline_data(runs)
    if not panels:
        raise NoDataError("no measured case of batch 1 ran on a device whose ceilings are stored")
    return draw_roofline(panels)


FIGURES.add(
    FigureSpec(
        name="roofline", title="Roofline",
        shows="2 x MACs / latency of every case of batch 1 against FLOPs a byte of traffic (with "
        "norms and activations folded), under what the device can do at best; small dots are the "
        "predicted layers of one network. Below the slope memory is the bound, below the flat line "
        "compute is. Traffic that a cache keeps may lift a point over the slope of the memory.",
        origins=("measured", "computed", "predicted"), section="roofline", draw=_draw,
    )
)  # fmt: skip
