"""Roofline: what was measured, and what is predicted of the layers, under the device's ceilings.

Williams, Waterman, Patterson (2009), doi 10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench.analysis import roofline
from cspbench.figures import style
from cspbench.figures.cases import in_order, measured, plain, shorten
from cspbench.figures.choice import choose_models, has
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import CASE_GID
from cspbench.ids import parse_case_id

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.analysis.record import Analysis
    from cspbench.frames import Run

MAX_PANELS = 3


@dataclass(frozen=True)
class Point:
    """Something that runs: FLOPs a byte of fused traffic, and GFLOP/s."""

    name: str
    backend: str
    intensity: float
    gflops: float


@dataclass(frozen=True)
class Roof:
    """One device at one number of threads: ceilings, measured cases, predicted layers.

    ``ceilings`` are the fields of ``measure.ceilings_cache.Ceilings``; ``model`` is the network
    whose layers are predicted, "" if there is none.
    """

    device: str
    ceilings: Mapping[str, Any]
    cases: tuple[Point, ...]
    model: str
    layers: tuple[Point, ...]


def case_point(case_id: str, latency_ms: float, analysis: Analysis) -> Point:
    """A measured case of batch 1: 2 x MACs / latency over its intensity."""
    flops = analysis.totals["flops"]
    return Point(
        case_id,
        str(parse_case_id(case_id).backend),
        flops / analysis.totals["traffic_bytes_fused"],
        flops / (latency_ms * 1e-3) / 1e9,
    )


def layer_points(analysis: Analysis, ceilings: Mapping[str, Any]) -> tuple[Point, ...]:
    """The layers that compute, each at the rate that the roofline and its overhead predict."""
    rows = roofline.layer_rows(analysis, roofline.peak_of(ceilings))
    return tuple(
        Point(row["name"], "", row["intensity"], row["flops"] / (row["predicted_ms"] * 1e-3) / 1e9)
        for row in rows
        if row["flops"]
    )


def roofline_data(runs: Sequence[Run]) -> list[Roof]:
    """One roof a device and number of threads of which the ceilings and a case are known."""
    ceilings: dict[str, Mapping[str, Any]] = {}
    analyses: dict[str, Analysis] = {}
    for run in runs:
        ceilings |= run.stored.meta.get("ceilings", {})
        for model in run.stored.meta["analyses"]:
            if has(run, model):
                analyses[model] = _analysis(run, model)
    cases: dict[str, list[Point]] = {}
    for row in measured(runs).to_dict(orient="records"):
        case = parse_case_id(row["id"])
        analysis = analyses.get(str(case.model))
        if case.batch == 1 and analysis is not None and analysis.totals["flops"]:
            key = f"{_device(case.backend.name)}/t{case.threads}"
            cases.setdefault(key, []).append(case_point(row["id"], row["latency_ms"], analysis))
    roofs = []
    for key in [key for key in cases if key in ceilings][:MAX_PANELS]:
        models = in_order(str(parse_case_id(point.name).model) for point in cases[key])
        [model] = choose_models(models, 1)
        layers = layer_points(analyses[model], ceilings[key])
        roofs.append(Roof(key, ceilings[key], tuple(cases[key]), model, layers))
    return roofs


def _analysis(run: Run, model: str) -> Analysis:
    import json

    from cspbench.analysis import Analysis

    return Analysis.from_json(json.dumps(run.stored.meta["analyses"][model]))


def _device(backend: str) -> str:
    from cspbench.backends.spec import BACKENDS
    from cspbench.errors import CspbenchError

    try:
        return str(BACKENDS.get(backend).device)
    except CspbenchError:  # a backend of a package that is not installed here
        return ""


@style.styled
def draw_roofline(roofs: Sequence[Roof]) -> Figure:
    """A panel a device; ceilings are lines, cases large marks, predicted layers small dots."""
    figure = style.new_figure(10.0, 0.6 + 3.9 * len(roofs))
    panels = figure.subplots(len(roofs), 1, squeeze=False)[:, 0]
    backends = in_order(point.backend for roof in roofs for point in roof.cases)
    for axes, roof in zip(panels, roofs, strict=True):
        _panel(axes, roof, backends)
    handles = {}
    for axes in panels:
        lines, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=5)
    return figure


def _panel(axes: Axes, roof: Roof, backends: Sequence[str]) -> None:
    points = (*roof.cases, *roof.layers)
    peak = roofline.peak_of(roof.ceilings)
    left = min(peak.ridge, *(point.intensity for point in points)) / 2
    right = max(peak.ridge, *(point.intensity for point in points)) * 4
    axes.set_xscale("log")
    axes.set_yscale("log")
    _ceilings(axes, roof.ceilings, left, right)
    if roof.layers:
        axes.plot(
            [point.intensity for point in roof.layers], [point.gflops for point in roof.layers],
            ".", color=style.MUTED, markersize=4, label="layer, predicted", zorder=2,
        )  # fmt: skip
    for point in roof.cases:
        index = backends.index(point.backend)
        [mark] = axes.plot(
            [point.intensity], [point.gflops], style.marker(index), color=style.color(index),
            label=f"{plain(point.backend)}, measured", zorder=3,
        )  # fmt: skip
        mark.set_gid(CASE_GID + point.name)
    axes.set_xlim(left, right)
    axes.set_title(f"{roof.device}; layers of {shorten(plain(roof.model))}", fontsize=10)
    axes.set_xlabel("FLOP/byte of fused traffic, computed")
    axes.set_ylabel("GFLOP/s")


def _ceilings(axes: Axes, ceilings: Mapping[str, Any], left: float, right: float) -> None:
    """The roof that predictions use in ink; caches and other precisions thin and dashed."""
    top = max(ceilings["gflops"].values())
    best = ceilings["gflops"][roofline.PRECISION]
    slopes = {f"memory, {roofline.BANDWIDTH}": ceilings["bandwidth_gbs"][roofline.BANDWIDTH]}
    slopes |= {f"{level} copy": rate for level, rate in ceilings["cache_bandwidth_gbs"].items()}
    for index, (name, rate) in enumerate(slopes.items()):
        roof = best if index == 0 else top
        end = min(max(roof / rate, left), right)
        axes.plot([left, end], [left * rate, end * rate], **_line(index == 0))
        axes.annotate(
            f"{name} {rate:.3g} GB/s", (left, left * rate), (3, 3), textcoords="offset points",
            fontsize=8, va="bottom",
        )  # fmt: skip
    for name, rate in ceilings["gflops"].items():
        main = name == roofline.PRECISION
        start = rate / next(iter(slopes.values()))
        axes.plot([min(start, right), right], [rate, rate], **_line(main))
        axes.annotate(
            f"{name} {rate:.3g} GFLOP/s", (right, rate), (-3, 3), textcoords="offset points",
            fontsize=8, ha="right", va="bottom",
        )  # fmt: skip


def _line(main: bool) -> dict[str, Any]:
    if main:
        return {"color": style.INK, "linewidth": 1.4, "label": "ceiling, measured", "zorder": 1}
    return {"color": style.MUTED, "linewidth": 0.9, "linestyle": style.LINES[1], "zorder": 1}


def _draw(runs: Sequence[Run]) -> Figure:
    if not any(run.stored.meta.get("ceilings") for run in runs):
        raise NoDataError("no ceilings are stored in these runs: cspbench ceilings measures them")
    roofs = roofline_data(runs)
    if not roofs:
        raise NoDataError("no measured case of batch 1 ran on a device whose ceilings are stored")
    return draw_roofline(roofs)


FIGURES.add(
    FigureSpec(
        name="roofline",
        title="Roofline",
        shows="2 x MACs / latency of every case of batch 1 against FLOPs a byte of traffic (with "
        "norms and activations folded), under what the device can do at best; small dots are the "
        "predicted layers of one network. Below the slope memory bounds, below the flat line "
        "compute; traffic that a cache keeps may lift a point over the slope of the memory.",
        origins=("measured", "computed", "predicted"),
        section="roofline",
        draw=_draw,
    )
)
