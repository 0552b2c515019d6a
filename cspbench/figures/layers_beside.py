"""Layers of two cases side by side: time, arithmetic and rate by stage and role."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.figures import style
from cspbench.figures.cases import model_label, setting_label
from cspbench.figures.spec import FIGURES, FigureSpec
from cspbench.figures.waterfall import first_explained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cspbench.attribution import Explanation
    from cspbench.attribution.causes import Side
    from cspbench.views.frames import Run

#: Most stages and roles that are shown: those whose time differs most.
MOST_ROWS = 14


@dataclass(frozen=True)
class Beside:
    """Time in ms, GMACs and GFLOP/s of the layers of one stage and role, in A and in B."""

    label: str
    ms: tuple[float, float]
    gmacs: tuple[float, float]

    @property
    def gflops(self) -> tuple[float, float]:
        """Rates; 0 where nothing is multiplied."""
        first, second = (
            2000 * macs / ms if ms else 0.0 for macs, ms in zip(self.gmacs, self.ms, strict=True)
        )
        return first, second


def beside_data(it: Explanation) -> list[Beside]:
    """The stages and roles whose time differs most, in order of the difference."""
    rows = []
    for group in it.groups:
        if group.a_count or group.b_count:
            place = (group.stage, group.role)
            gmacs = tuple(_gmacs(side, place) for side in (it.a, it.b))
            label = f"{group.role}, {group.stage}" if group.stage else group.role
            rows.append(Beside(label, (group.a_ms, group.b_ms), (gmacs[0], gmacs[1])))
    return rows[:MOST_ROWS]


def _gmacs(side: Side, place: tuple[str, str]) -> float:
    return sum(e.macs for e in side.entries if (e.stage, e.role) == place) / 1e9


@style.styled
def draw_beside(it: Explanation) -> Figure:
    """Three panels over the same rows, a bar of each case in each."""
    rows = beside_data(it)
    figure = style.new_figure(10.0, 1.6 + 0.5 * len(rows))
    panels = figure.subplots(1, 3, sharey=True)
    columns = (
        ("ms", [row.ms for row in rows]),
        ("GMACs", [row.gmacs for row in rows]),
        ("GFLOP/s", [row.gflops for row in rows]),
    )
    for axes, (label, values) in zip(panels, columns, strict=True):
        style.only_grid(axes, "x")
        for number, colour in enumerate((style.MUTED, style.BLUE)):
            places = [row + (number - 0.5) * 0.38 for row in range(len(rows))]
            name = f"{'AB'[number]}: {model_label((it.a, it.b)[number].case)}"
            axes.barh(places, [pair[number] for pair in values], 0.36, color=colour, label=name)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(rows)), [textwrap.fill(row.label, 34) for row in rows])
    panels[0].invert_yaxis()
    title = f"Layers side by side, {setting_label(it.a.case)}"
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=11)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    return draw_beside(first_explained(runs))


FIGURES.add(
    FigureSpec(
        name="layers_beside", title="Layers of two networks side by side",
        shows="Time, arithmetic and rate of the stages and roles whose time differs most between "
              "the first two cases that were profiled together.",
        origins=("measured", "computed"), section="explain", draw=_draw, order=2,
    )
)  # fmt: skip
