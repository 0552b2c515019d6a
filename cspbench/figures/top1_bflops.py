"""Top-1 accuracy against BFLOPs, in the form of the CSPNet paper's Fig. 1, with arrows of gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId
from cspbench.figures import style
from cspbench.figures.cases import family, in_order, shorten
from cspbench.figures.labels import along, label_points
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
from cspbench.literature.by_model import published_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_FAMILIES = 6


@dataclass(frozen=True)
class Classifier:
    """A network: BFLOPs (computed, or else published), published top-1 accuracy."""

    model: str
    family: str
    bflops: float
    top1: float
    computed: bool

    @property
    def name(self) -> str:
        """The model id without input."""
        return self.model.split("@")[0]


def top1_bflops_data(
    computed: Mapping[str, float], bflops: Mapping[str, float], top1: Mapping[str, float]
) -> list[Classifier]:
    """Classifiers of the families that the runs hold, cheapest first.

    All are by model id with input: computed and published BFLOPs, published top-1 in percent.
    """
    families = in_order(_family(model) for model in computed if model in top1)[:MAX_FAMILIES]
    points = []
    for model, accuracy in top1.items():
        cost = computed.get(model, bflops.get(model))
        if cost is not None and _family(model) in families:
            points.append(Classifier(model, _family(model), cost, accuracy, model in computed))
    return sorted(points, key=lambda point: (point.bflops, point.model))


def _family(model: str) -> str:
    return family(ModelId.parse(model).model.name)


def gains(points: Sequence[Classifier]) -> list[tuple[Classifier, Classifier]]:
    """Pairs (plain network, its CSP form): ``csp`` before the same name and options."""
    by_name = {point.model: point for point in points}
    return [
        (point, by_name[f"csp{point.model}"]) for point in points if f"csp{point.model}" in by_name
    ]


@style.styled
def draw_top1_bflops(points: Sequence[Classifier]) -> Figure:
    """Filled marks have computed BFLOPs, hollow ones published; arrows lead to the CSP form."""
    figure = style.new_figure(10.0, 4.6)
    axes = figure.subplots()
    for index, name in enumerate(in_order(point.family for point in points)):
        line = [point for point in points if point.family == name]
        color, shape = style.color(index), style.marker(index)
        axes.plot([], [], shape, color=color, label=name)
        for point in line:
            axes.plot(
                [point.bflops], [point.top1], shape, color=color,
                markerfacecolor=color if point.computed else "none",
            )  # fmt: skip
    for plain_form, csp in gains(points):
        _arrow(axes, plain_form, csp)
    axes.plot([], [], "o", color=style.MUTED, markerfacecolor="none", label="BFLOPs published")
    axes.set_xlabel("BFLOPs: computed (filled) or published (hollow)")
    axes.set_ylabel("ImageNet top-1, %: published")
    axes.margins(x=0.14, y=0.12)
    figure.legend(loc="outside upper left", ncols=7)
    style.freeze_layout(figure)
    label_points(
        figure, axes, [(point.bflops, point.top1) for point in points],
        [shorten(point.name, 36) for point in points],
        [
            point
            for one, other in gains(points)
            for point in along([(one.bflops, one.top1), (other.bflops, other.top1)])
        ],
    )  # fmt: skip
    return figure


def _arrow(axes: Axes, plain_form: Classifier, csp: Classifier) -> None:
    axes.annotate(
        "", (csp.bflops, csp.top1), (plain_form.bflops, plain_form.top1),
        arrowprops={"arrowstyle": "-|>", "color": style.INK, "linewidth": 0.9, "shrinkA": 5,
                    "shrinkB": 5, "alpha": 0.7},
    )  # fmt: skip


def _draw(runs: Sequence[Run]) -> Figure:
    computed = {
        model: analysis["totals"]["bflops"]
        for run in runs
        for model, analysis in run.stored.meta["analyses"].items()
        if "bflops" in analysis["totals"]
    }
    points = top1_bflops_data(computed, published_values("bflops"), published_values("top1_pct"))
    if not points:
        raise NoDataError("none of the networks has a published top-1 accuracy")
    return draw_top1_bflops(points)


FIGURES.add(
    FigureSpec(
        name="top1_bflops", title="Accuracy against compute",
        shows="Published ImageNet top-1 against BFLOPs, as in the paper's Fig. 1; arrows lead from "
        "a network to its cross-stage-partial form. Networks of the same families that these "
        "runs did not analyse are hollow.",
        origins=("computed", "published"), section="accuracy", draw=_draw, order=1,
    )
)  # fmt: skip
