"""Compute and memory traffic summed up along the depth of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.figures import style
from cspbench.figures.cases import plain, shorten
from cspbench.figures.choice import compared_models
from cspbench.figures.spec import FIGURES, FigureSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_NETWORKS = 4


@dataclass(frozen=True)
class CumulativeCost:
    """Running sums of one network: after each layer, GMACs and MB of fused traffic."""

    model: str
    position: tuple[float, ...]
    gmacs: tuple[float, ...]
    traffic_mb: tuple[float, ...]


def cumulative_data(layers: pd.DataFrame, models: Sequence[str]) -> list[CumulativeCost]:
    """Running sums of ``macs`` and ``traffic_bytes_fused``; position runs from 0 to 1."""
    costs = []
    for model in models:
        frame = layers[layers["model"] == model]
        count = len(frame)
        costs.append(
            CumulativeCost(
                model,
                tuple((i + 1) / count for i in range(count)),
                tuple((frame["macs"].cumsum() / 1e9).tolist()),
                tuple((frame["traffic_bytes_fused"].cumsum() / 1e6).tolist()),
            )
        )
    return costs


@style.styled
def draw_cumulative(networks: Sequence[CumulativeCost]) -> Figure:
    """Two panels over the same depth: GMACs, and MB moved."""
    figure = style.new_figure(10.0, 3.6)
    left, right = figure.subplots(1, 2)
    for index, network in enumerate(networks):
        look = {"color": style.color(index), "linestyle": style.LINES[index]}
        label = shorten(plain(network.model))
        left.plot(network.position, network.gmacs, label=label, **look)
        right.plot(network.position, network.traffic_mb, **look)
        for axes, values in ((left, network.gmacs), (right, network.traffic_mb)):
            axes.plot(network.position[-1:], values[-1:], marker=style.marker(index),
                      color=style.color(index), clip_on=False)  # fmt: skip
    for axes, title, unit in (
        (left, "Compute so far", "GMACs, computed"),
        (right, "Memory traffic so far (fused)", "MB, computed"),
    ):
        axes.set_title(title)
        axes.set_ylabel(unit)
        axes.set_xlabel("depth: share of the layers")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", ncols=min(len(networks), 3))
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    layers, models = compared_models(runs, MAX_NETWORKS)
    return draw_cumulative(cumulative_data(layers, models))


FIGURES.add(
    FigureSpec(
        name="cumulative", title="Compute and traffic by depth",
        shows="Running sums from the first layer to the last: where a line is steep, there the "
        "network spends.",
        origins=("computed",), section="layers", draw=_draw, order=2,
    )
)  # fmt: skip
