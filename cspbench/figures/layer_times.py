"""Measured time of each layer under what it computes and moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.text import percent
from cspbench.figures import style
from cspbench.figures.cases import model_label, setting_label
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run


@dataclass(frozen=True)
class Profile:
    """Entries of one profiled case in order; ``residual_ms`` lies between the layers."""

    case: str
    gmacs: tuple[float, ...]
    traffic_mb: tuple[float, ...]
    time_ms: tuple[float, ...]
    residual_ms: float


def layer_times_data(times: pd.DataFrame) -> Profile | None:
    """The first profiled case that could be joined to its analysis; None without one.

    The last row of a case is the time that no entry accounts for. An entry that is joined to no
    layer has no MACs and no traffic.
    """
    for case, rows in times.groupby("case", sort=False):
        entries, residual = rows.iloc[:-1], rows.iloc[-1]
        if len(entries) and entries["macs"].notna().any():
            return Profile(
                case=str(case),
                gmacs=tuple((entries["macs"].fillna(0).astype(float) / 1e9).tolist()),
                traffic_mb=tuple((entries["traffic_bytes"].fillna(0).astype(float) / 1e6).tolist()),
                time_ms=tuple(entries["time_ms"].tolist()),
                residual_ms=float(residual["time_ms"]),
            )
    return None


@style.styled
def draw_layer_times(profile: Profile) -> Figure:
    """Three panels over the same layers."""
    figure = style.new_figure(10.0, 5.2)
    panels = figure.subplots(3, 1, sharex=True)
    rows = (
        (profile.gmacs, "GMACs\ncomputed", style.GREEN),
        (profile.traffic_mb, "MB, fused\ncomputed", style.ORANGE),
        (profile.time_ms, "ms\nmeasured", style.BLUE),
    )
    for axes, (values, label, color) in zip(panels, rows, strict=True):
        style.only_grid(axes, "y")
        style.thin_bars(axes, values, 2.4, colors=color)
        axes.set_ylabel(label)
        axes.set_ylim(0, max(values) * 1.08 or 1.0)
    panels[0].set_xlim(-1, len(profile.time_ms))
    panels[0].set_title(f"{model_label(profile.case)} on {setting_label(profile.case)}")
    # Of times that are many orders of magnitude apart nothing may be left.
    total = sum(profile.time_ms) + profile.residual_ms
    share = profile.residual_ms / total if total else 0.0
    panels[2].set_xlabel(
        f"layer, in order of execution; {percent(share)} of the time lies between layers"
    )
    return figure


def _draw(runs: Sequence[Run]) -> Figure:
    for run in runs:
        profile = layer_times_data(run.layer_times)
        if profile is not None:
            return draw_layer_times(profile)
    raise NoDataError("no layer was timed (a suite asks for it with measure.layers: true)")


FIGURES.add(
    FigureSpec(
        name="layer_times", title="Measured time of every layer",
        shows="What each layer of the first profiled case computes, moves and takes.",
        origins=("computed", "measured"), section="layers", draw=_draw, order=4,
    )
)  # fmt: skip
