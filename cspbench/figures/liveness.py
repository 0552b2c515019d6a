"""Activations alive while each layer runs, with the peak."""

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

MAX_NETWORKS = 3


@dataclass(frozen=True)
class LiveMemory:
    """Live MiB while each layer runs; the peak is at layer ``peak_at``, called ``peak_name``."""

    model: str
    live_mib: tuple[float, ...]
    peak_at: int
    peak_name: str


def liveness_data(layers: pd.DataFrame, models: Sequence[str]) -> list[LiveMemory]:
    """Column ``live_bytes`` of each network; the peak is the first layer that reaches it."""
    memories = []
    for model in models:
        frame = layers[layers["model"] == model]
        live = tuple((frame["live_bytes"] / 2**20).tolist())
        peak = max(range(len(live)), key=live.__getitem__)
        memories.append(LiveMemory(model, live, peak, str(frame["name"].iloc[peak])))
    return memories


@style.styled
def draw_liveness(networks: Sequence[LiveMemory]) -> Figure:
    """A panel a network on common axes; the peak is marked and named."""
    figure = style.new_figure(10.0, 0.7 + 1.7 * len(networks))
    panels = figure.subplots(len(networks), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    top = max(max(network.live_mib) for network in networks)
    for index, (axes, network) in enumerate(zip(panels, networks, strict=True)):
        style.only_grid(axes, "y")
        layers = range(len(network.live_mib))
        axes.fill_between(
            layers, network.live_mib, step="mid", color=style.color(index), alpha=0.35, linewidth=0
        )
        axes.step(layers, network.live_mib, where="mid", color=style.color(index), linewidth=1.1)
        peak = network.live_mib[network.peak_at]
        axes.plot([network.peak_at], [peak], marker=style.marker(index), color=style.INK)
        axes.annotate(
            f"peak {peak:.1f} MiB in {shorten(plain(network.peak_name), 40)}",
            (network.peak_at, peak), (8, 2), textcoords="offset points", va="bottom", fontsize=9,
        )  # fmt: skip
        axes.set_title(shorten(plain(network.model)), fontsize=10)
        axes.set_ylabel("MiB, computed")
    panels[0].set_ylim(0, top * 1.25)
    panels[0].set_xlim(left=0)
    panels[-1].set_xlabel("operator, in order of execution")
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    layers, models = compared_models(runs, MAX_NETWORKS)
    return draw_liveness(liveness_data(layers, models))


FIGURES.add(
    FigureSpec(
        name="liveness", title="Live activations",
        shows="Bytes of activations alive while each operator runs, weights not counted; the peak "
        "is what an ideal allocator needs.",
        origins=("computed",), section="memory", draw=_draw,
    )
)  # fmt: skip
