"""From A to B by cause: the difference of two cases that were profiled in the same blocks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cspbench.attribution.api import explain_networks
from cspbench.attribution.sides import notes_on
from cspbench.errors import InputError
from cspbench.figures import style
from cspbench.figures.cases import model_label, setting_label
from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cspbench.attribution import Explanation
    from cspbench.views.frames import Run

#: Causes of less than this share of all changes stand together as "the rest".
SMALLEST_SHARE = 0.02
#: Steps that span less than this share of the latencies are shown enlarged.
SMALL_STEPS = 0.4
#: The pair is looked for among the first so many cases of a run.
MOST_CASES = 12


@dataclass(frozen=True)
class Step:
    """A cause: its label, its change in ms, half its 95 % interval, and whether it is residual."""

    label: str
    change_ms: float
    reach_ms: float | None
    residual: bool = False


@dataclass(frozen=True)
class Waterfall:
    """Both cases with their latencies in ms, and the steps that lead from one to the other."""

    a: str
    b: str
    a_ms: float
    b_ms: float
    steps: tuple[Step, ...]


def first_explained(runs: Sequence[Run]) -> Explanation:
    """The explanation of the first pair of any of the runs.

    Raises:
        NoDataError: there is none.
    """
    for run in runs:
        found = explained_pair(run)
        if found is not None:
            return found
    raise NoDataError("no two cases were profiled in the same blocks (cspbench explain A B)")


def explained_pair(run: Run) -> Explanation | None:
    """The explanation of the first two cases of a run that were profiled in the same blocks.

    Both are of one backend, batch, number of threads and input.
    """
    profiled = (record for record in run.records if any(time.layers for time in record.times))
    cases = [record.case for record in islice(profiled, MOST_CASES)]
    for number, a in enumerate(cases):
        for b in cases[number + 1 :]:
            if not notes_on(a, b) and run.in_turn.shared(a, b):
                try:
                    return explain_networks(run, a, b)
                except InputError:  # no ceilings, or an analysis of another version
                    continue
    return None


def waterfall_data(it: Explanation) -> Waterfall:
    """Steps by cause, the largest first and the residual last; together they are the difference."""
    moved = sum(abs(part.difference_ms) for part in it.parts)
    large = [part for part in it.parts if abs(part.difference_ms) > SMALLEST_SHARE * moved]
    large.sort(key=lambda part: (part.residual, -abs(part.difference_ms)))
    steps = [
        Step(
            part.label,
            part.difference_ms,
            None if part.low is None or part.high is None else (part.high - part.low) / 2,
            part.residual,
        )
        for part in large
    ]
    rest = it.difference_ms - sum(step.change_ms for step in steps)
    if abs(rest) > 1e-9:
        steps.append(Step("the rest", rest, None))
    return Waterfall(
        it.a.case, it.b.case, it.a.latency.estimate, it.b.latency.estimate, tuple(steps)
    )


@style.styled
def draw_waterfall(data: Waterfall) -> Figure:
    """A bar for each case, and between them one for each step."""
    figure = style.new_figure(9.0, 1.4 + 0.42 * (len(data.steps) + 2))
    axes = figure.subplots()
    style.only_grid(axes, "x")
    labels = [f"A: {model_label(data.a)}"]
    labels += [step.label + (" (residual)" if step.residual else "") for step in data.steps]
    labels += [f"B: {model_label(data.b)}"]
    rows = range(len(labels))
    axes.barh(0, data.a_ms, color=style.MUTED, height=0.62)
    level = data.a_ms
    for row, step in enumerate(data.steps, 1):
        colour = style.MUTED if step.residual else style.RED if step.change_ms > 0 else style.GREEN
        axes.barh(row, step.change_ms, left=level, color=colour, height=0.62)
        after = level + step.change_ms
        if step.reach_ms:
            axes.errorbar(after, row, xerr=step.reach_ms, color=style.INK, capsize=3, lw=1.2)
        edge = max(level, after + (step.reach_ms or 0.0))
        axes.annotate(f"{step.change_ms:+.2f}", (edge, row), (5, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
        level = after
    axes.barh(rows[-1], data.b_ms, color=style.BLUE, height=0.62)
    for row, ms in ((0, data.a_ms), (rows[-1], data.b_ms)):
        axes.annotate(f"{ms:.1f} ms", (ms, row), (5, 0), textcoords="offset points", va="center",
                      fontsize=9)  # fmt: skip
    axes.set_yticks(rows, [textwrap.fill(label, 38) for label in labels])
    axes.invert_yaxis()
    left, right = _limits(data)
    axes.set_xlim(left, right)
    cut = "; the axis does not begin at 0" if left else ""
    axes.set_xlabel(f"ms an inference; whiskers: 95 % over blocks{cut}")
    axes.set_title(f"From A to B by cause, {setting_label(data.a)}")
    return figure


def _limits(data: Waterfall) -> tuple[float, float]:
    """Where the axis begins and ends: near the steps if they are small beside the latencies."""
    level, edges = data.a_ms, [data.a_ms, data.b_ms]
    for step in data.steps:
        level += step.change_ms
        reach = step.reach_ms or 0.0
        edges += [level - reach, level + reach]
    low, high = min(edges), max(edges)
    span = high - low
    left = max(0.0, low - 0.5 * span) if span < SMALL_STEPS * high else 0.0
    return left, high + 0.15 * (high - left)


def _draw(runs: Sequence[Run]) -> Figure:
    return draw_waterfall(waterfall_data(first_explained(runs)))


FIGURES.add(
    FigureSpec(
        name="waterfall", title="From one network to the other, by cause",
        shows="What makes the difference of latency of the first two cases that were profiled "
              "together: red steps make B slower, green ones faster.",
        origins=("measured",), section="explain", draw=_draw, order=1,
    )
)  # fmt: skip
