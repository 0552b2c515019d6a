"""Inputs and outputs of every layer, in the form of the CSPNet paper's Fig. 8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.analysis.metrics.traffic import PAPER_CIO_KINDS
from cspbench.figures import style
from cspbench.figures.cases import plain, shorten
from cspbench.figures.choice import compared_models
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

NETWORKS = 2


@dataclass(frozen=True)
class LayerIo:
    """Millions of elements read and written by each convolution, pool and softmax, in order."""

    model: str
    inputs: tuple[float, ...]
    outputs: tuple[float, ...]

    @property
    def total(self) -> float:
        """Sum over all layers: the paper's CIO, in millions."""
        return sum(self.inputs) + sum(self.outputs)


def layer_io_data(layers: pd.DataFrame, models: Sequence[str]) -> list[LayerIo]:
    """Input and output elements of the layers that the paper's convention counts."""
    drawn = []
    for model in models:
        frame = layers[(layers["model"] == model) & layers["kind"].isin(PAPER_CIO_KINDS)]
        drawn.append(
            LayerIo(
                model,
                tuple((frame["input_elements"] / 1e6).tolist()),
                tuple((frame["output_elements"] / 1e6).tolist()),
            )
        )
    return [network for network in drawn if network.inputs]


@style.styled
def draw_layer_io(networks: Sequence[LayerIo]) -> Figure:
    """Two stacked panels, inputs above outputs; networks side by side in each layer."""
    figure = style.new_figure(10.0, 4.6)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    width = 0.8 / len(networks)
    for axes, which in zip(panels, ("inputs", "outputs"), strict=True):
        style.only_grid(axes, "y")
        for index, network in enumerate(networks):
            style.thin_bars(
                axes, getattr(network, which), 2.0, offset=(index + 0.5) * width,
                colors=style.color(index),
                label=f"{shorten(plain(network.model))}  (sum of both {network.total:.1f} M)",
            )  # fmt: skip
        axes.set_ylabel(f"{which}, M elements")
    longest = max(len(network.inputs) for network in networks)
    largest = max(max(*network.inputs, *network.outputs) for network in networks)
    panels[0].set_xlim(-0.5, longest + 0.5)
    panels[0].set_ylim(0, largest * 1.06)
    panels[1].set_xlabel("layer, in order of execution (convolutions, pools, softmax); computed")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(networks))
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    layers, models = compared_models(runs, NETWORKS)
    networks = layer_io_data(layers, models)
    if not networks:
        raise NoDataError("no layer of these models is one that the paper counts")
    return draw_layer_io(networks)


FIGURES.add(
    FigureSpec(
        name="layer_io", title="Inputs and outputs of every layer",
        shows="Elements that each layer reads and writes (the paper's Fig. 8); their sum is what "
        "the paper calls CIO and takes for memory traffic.",
        origins=("computed",), section="layers", draw=_draw, order=1,
    )
)  # fmt: skip
