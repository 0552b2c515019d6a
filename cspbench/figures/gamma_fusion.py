"""Variants in γ and fusion against BFLOPs, in the form of the CSPNet paper's Fig. 4.

Left: published top-1. Right: measured latency. Percentages are the change of BFLOPs against the
plain network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.case import Case, format_value
from cspbench.figures import style
from cspbench.figures.cases import (
    Row,
    in_order,
    known,
    measured,
    plain,
    setting_label,
    shorten,
)
from cspbench.figures.labels import MAX_LABELS, along, label_points
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.figures.svg import mark_points
from cspbench.literature.by_model import published_values
from cspbench.models.stated import axis_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_SETTINGS = 3


@dataclass(frozen=True)
class Variant:
    """One network in one setting; ``change`` is that of BFLOPs against the plain network."""

    case: str
    label: str
    setting: str
    bflops: float
    change: float
    latency_ms: float
    low: float | None
    high: float | None
    top1: float | None
    run: str = ""


def gamma_fusion_data(cases: pd.DataFrame, top1: Mapping[str, float]) -> list[Variant]:
    """Variants of the network of which most are measured, the plain one first.

    ``csppeleenet`` with its options is a variant of ``peleenet`` at the same neck and input. Cases
    without BFLOPs are left out; without a plain network or two variants there is nothing to show.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in cases[cases["bflops"] > 0].to_dict(orient="records"):
        case = Case.parse(row["id"])
        key = (case.model.name.removeprefix("csp"), str(case.neck), row["input"])
        groups.setdefault(key, []).append(row)
    best: list[Variant] = []
    for (name, _, _), rows in groups.items():
        variants = _variants(name, rows, top1)
        if len(variants) > len(best):
            best = variants
    return best


def _variants(plain_name: str, rows: Sequence[Row], top1: Mapping[str, float]) -> list[Variant]:
    models = [Case.parse(row["id"]).model_id for row in rows]
    bases = [
        row["bflops"]
        for row, model in zip(rows, models, strict=True)
        if model.model.name == plain_name and not model.model.options
    ]
    kinds = {str(model) for model in models}
    if not bases or len(kinds) < 3:
        return []
    kept = [
        Variant(
            case=row["id"],
            label=_label(row["id"]),
            setting=setting_label(row["id"]),
            bflops=row["bflops"],
            change=row["bflops"] / bases[0] - 1,
            latency_ms=row["latency_ms"],
            low=known(row["latency_ms_low"]),
            high=known(row["latency_ms_high"]),
            top1=top1.get(str(model)),
            run=row.get("run", ""),
        )
        for row, model in zip(rows, models, strict=True)
    ]
    return sorted(kept, key=lambda variant: -variant.bflops)


def _label(case_id: str) -> str:
    """``peleenet``, or the options that make the variant: ``fusion last, γ 0.25``."""
    model = Case.parse(case_id).model
    gamma, fusion = axis_value(case_id, "gamma"), axis_value(case_id, "fusion")
    if gamma is None or fusion is None:
        return shorten(plain(model), 32)
    rest = [
        f"{key}={format_value(value)}"
        for key, value in model.options
        if key.removeprefix("csp.") not in ("gamma", "fusion")
    ]
    return shorten(plain(", ".join([f"fusion {fusion}", f"γ {gamma}", *rest])), 32)


@style.styled
def draw_gamma_fusion(variants: Sequence[Variant]) -> Figure:
    """Two panels over the same BFLOPs."""
    figure = style.new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    published = list({v.label: (v, v.top1) for v in variants if v.top1 is not None}.values())
    _top1_panel(left, published)
    settings = in_order(variant.setting for variant in variants)[:MAX_SETTINGS]
    for index, setting in enumerate(settings):
        _latency_series(right, [v for v in variants if v.setting == setting], index, setting)
    right.set_title("Latency")
    right.set_ylabel("ms: measured, with 95 % interval")
    right.set_ylim(0, 1.5 * max(variant.latency_ms for variant in variants))
    right.legend(loc="upper left", ncols=1)
    for axes in (left, right):
        axes.set_xlabel("BFLOPs: computed")
        axes.margins(x=0.12)
    style.freeze_layout(figure)
    points = [(v.bflops, top1) for v, top1 in published]
    arrows = [point for end in points[1:] for point in along([points[0], end])]
    label_points(figure, left, points, [_with_change(v) for v, _ in published], arrows)
    lowest = [v for v in variants if v.setting == settings[0]]
    label_points(
        figure, right, [(v.bflops, v.latency_ms) for v in lowest], [v.label for v in lowest],
        [(v.bflops, v.latency_ms) for v in variants] + _whiskers(variants),
    )  # fmt: skip
    return figure


def _whiskers(variants: Sequence[Variant]) -> list[tuple[float, float]]:
    """Points along the intervals, for labels to keep off; where there are many, none can."""
    if len(variants) > MAX_LABELS:
        return []
    return [
        point
        for v in variants
        if v.low is not None and v.high is not None
        for point in along([(v.bflops, v.low), (v.bflops, v.high)])
    ]


def _with_change(variant: Variant) -> str:
    if not variant.change:
        return variant.label
    return f"{variant.label}: {100 * variant.change:+.0f} %".replace("-", "−")


def _top1_panel(axes: Axes, published: Sequence[tuple[Variant, float]]) -> None:
    axes.set_title("Accuracy")
    axes.set_ylabel("ImageNet top-1, %: published")
    if not published:
        axes.annotate(
            "none published", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center"
        )
        return
    (base, base_top1), *others = published
    axes.plot([base.bflops], [base_top1], "D", color=style.MUTED)
    for variant, top1 in others:
        axes.plot([variant.bflops], [top1], "o", color=style.BLUE)
        axes.annotate(
            "", (variant.bflops, top1), (base.bflops, base_top1),
            arrowprops={"arrowstyle": "-|>", "color": style.INK, "linewidth": 0.8,
                        "shrinkA": 5, "shrinkB": 5, "alpha": 0.5},
        )  # fmt: skip
    axes.margins(y=0.25)


def _latency_series(axes: Axes, series: Sequence[Variant], index: int, setting: str) -> None:
    color, shape = style.color(index), style.marker(index)
    bounds = [(v.bflops, v.low, v.high) for v in series if None not in (v.low, v.high)]
    if bounds:
        axes.vlines(*zip(*bounds, strict=True), color=color, linewidth=1.2)
    (line,) = axes.plot(
        [v.bflops for v in series], [v.latency_ms for v in series], shape, color=color,
        label=setting,
    )  # fmt: skip
    mark_points(line, [(v.case, v.run) for v in series])


def _draw(runs: Sequence[Run]) -> Figure:
    variants = gamma_fusion_data(measured(runs), published_values("top1_pct"))
    if not variants:
        raise NoDataError(
            "no network was measured beside two of its cross-stage-partial variants "
            "(cspbench run gamma-sweep does that)"
        )
    return draw_gamma_fusion(variants)


FIGURES.add(
    FigureSpec(
        name="gamma_fusion", title="Partial ratio and fusion",
        shows="What variants save and cost. Left, as in the paper's Fig. 4: published top-1 over "
        "computed BFLOPs, with the change of BFLOPs. Right: what that does to latency here.",
        origins=("measured", "published", "computed"), section="ablation", draw=_draw,
    )
)  # fmt: skip
