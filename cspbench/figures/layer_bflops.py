"""BFLOPs of every layer in layer order, in the form of the CSPNet paper's Fig. 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.text import percent
from cspbench.figures import style
from cspbench.figures.cases import plain, shorten
from cspbench.figures.choice import compared_models
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

MAX_NETWORKS = 3


@dataclass(frozen=True)
class Network:
    """BFLOPs of the layers that compute, in order, and the largest of them."""

    model: str
    bflops: tuple[float, ...]
    largest: float


def layer_bflops_data(layers: pd.DataFrame, models: Sequence[str]) -> list[Network]:
    """Per-layer BFLOPs of ``models``, largest bottleneck first.

    Layers without BFLOPs (norms, activations, concatenations) are left out, as in the paper, whose
    index counts convolutions and pools. Networks without any are left out.
    """
    networks = []
    for model in models:
        values = layers.loc[layers["model"] == model, "bflops"]
        counted = tuple(float(value) for value in values if value > 0)
        if counted:
            networks.append(Network(model, counted, max(counted)))
    return sorted(networks, key=lambda network: -network.largest)


def reduction(network: Network, base: Network) -> float:
    """Change of the largest layer against ``base``, as a share: -0.44 is the paper's -44 %."""
    return network.largest / base.largest - 1


@style.styled
def draw_layer_bflops(networks: Sequence[Network]) -> Figure:
    """Grouped bars by layer; a dashed line at each maximum; arrows give the reductions."""
    figure = style.new_figure(10.0, 4.2)
    axes = figure.subplots()
    style.only_grid(axes, "y")
    width = 0.84 / len(networks)
    longest = max(len(network.bflops) for network in networks)
    for index, network in enumerate(networks):
        label = f"{shorten(plain(network.model))}  (largest {network.largest:.3f})"
        style.thin_bars(
            axes, network.bflops, 1.5, offset=(index + 0.5) * width, colors=style.color(index),
            label=label, capstyle="butt",
        )  # fmt: skip
        axes.axhline(network.largest, color=style.color(index), linestyle="--", linewidth=1.0)
    for index, network in enumerate(networks[1:], start=1):
        _arrow(axes, network, networks[0], longest * (1.03 + 0.06 * (index - 1)))
    axes.set_xlim(-0.02 * longest, longest * (1.03 + 0.06 * (len(networks) - 1)))
    axes.set_ylim(0, networks[0].largest * 1.06)
    axes.set_xlabel("layer, in order of execution (convolutions and pools)")
    axes.set_ylabel("BFLOPs, computed")
    figure.legend(loc="outside upper left", ncols=len(networks))
    return figure


def _arrow(axes: Axes, network: Network, base: Network, x: float) -> None:
    if network.largest >= base.largest:
        return
    axes.annotate(
        "", (x, network.largest), (x, base.largest),
        arrowprops={"arrowstyle": "-|>", "color": style.INK, "linewidth": 1.1, "shrinkA": 0,
                    "shrinkB": 0},
    )  # fmt: skip
    axes.annotate(
        percent(reduction(network, base), minus="−"), (x, network.largest), (0, -4),
        textcoords="offset points", ha="center", va="top", fontweight="bold",
    )  # fmt: skip


def _draw(runs: Sequence[Run]) -> Figure:
    layers, models = compared_models(runs, MAX_NETWORKS)
    networks = layer_bflops_data(layers, models)
    if not networks:
        raise NoDataError("no layer of these models has BFLOPs")
    return draw_layer_bflops(networks)


FIGURES.add(
    FigureSpec(
        name="layer_bflops", title="Compute of every layer",
        shows="BFLOPs of each convolution and pool in order of execution; a dashed line marks the "
        "largest, which is the paper's computational bottleneck (Fig. 7).",
        origins=("computed",), section="layers", draw=_draw,
    )
)  # fmt: skip
