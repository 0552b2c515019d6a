"""Compute, traffic and parameters of networks stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.figures import style
from cspbench.figures.cases import in_order, plain, shorten
from cspbench.figures.choice import compared_models
from cspbench.figures.spec import FIGURES, FigureSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_NETWORKS = 3
#: Column of the layer frame, divisor, panel title.
PANELS = (
    ("macs", 1e9, "GMACs, computed"),
    ("traffic_bytes_fused", 1e6, "fused traffic, MB, computed"),
    ("params", 1e6, "parameters, M, computed"),
)


@dataclass(frozen=True)
class Stages:
    """Sums a stage of one network, one tuple a panel in the order of PANELS."""

    model: str
    values: tuple[tuple[float, ...], ...]


def stage_data(layers: pd.DataFrame, models: Sequence[str]) -> tuple[tuple[str, ...], list[Stages]]:
    """Stage names in order of execution, and for each network its sums (0 where it lacks one)."""
    chosen = layers[layers["model"].isin(models)]
    stages = tuple(in_order(chosen["stage"]))
    drawn = []
    for model in models:
        sums = chosen[chosen["model"] == model].groupby("stage", sort=False).sum(numeric_only=True)
        sums = sums.reindex(list(stages), fill_value=0)
        drawn.append(
            Stages(
                model,
                tuple(tuple((sums[column] / unit).tolist()) for column, unit, _ in PANELS),
            )
        )
    return stages, drawn


@style.styled
def draw_stages(stages: Sequence[str], networks: Sequence[Stages]) -> Figure:
    """One panel a quantity, a group of bars a stage."""
    height = 0.8 / len(networks)
    figure = style.new_figure(10.0, 1.5 + len(stages) * (0.2 + 0.16 * len(networks)))
    panels = figure.subplots(1, len(PANELS), sharey=True, squeeze=False)[0]
    for panel, (axes, (_, _, title)) in enumerate(zip(panels, PANELS, strict=True)):
        style.only_grid(axes, "x")
        axes.set_xlabel(title)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="y", length=0)
        for index, network in enumerate(networks):
            rows = [row + (index - (len(networks) - 1) / 2) * height for row in range(len(stages))]
            axes.barh(
                rows, network.values[panel], height=height * 0.9, color=style.color(index),
                hatch=style.HATCHES[index], edgecolor=style.HATCH_INK, linewidth=0,
                label=shorten(plain(network.model)) if panel == 0 else None,
            )  # fmt: skip
    panels[0].set_yticks(
        range(len(stages)), [shorten(plain(name) or "(none)", 24) for name in stages]
    )
    panels[0].set_ylim(len(stages) - 0.4, -0.6)
    figure.legend(loc="outside upper left", ncols=len(networks))
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    layers, models = compared_models(runs, MAX_NETWORKS)
    return draw_stages(*stage_data(layers, models))


FIGURES.add(
    FigureSpec(
        name="stages", title="Stage by stage", shows="What each stage computes, moves and stores.",
        origins=("computed",), section="layers", draw=_draw, order=3,
    )
)  # fmt: skip
