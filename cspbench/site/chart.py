"""The history of a case as SVG: points, intervals, levels and where a new one begins.

One path holds all points and one all intervals, because a history has thousands. Colours come from
the style sheet by class. A page holds two layouts and shows the one that fits, so that no text
shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from markupsafe import Markup, escape

from cspbench.report.numbers import milliseconds
from cspbench.site.histories import Series

_Scale = Callable[[float], float]


@dataclass(frozen=True)
class Layout:
    """Size of a chart in the units of its texts; the plot lies within the margins."""

    kind: str
    width: int
    height: int
    left: int = 52
    right: int = 12
    top: int = 22
    bottom: int = 30


WIDE = Layout("wide", 1080, 260)
NARROW = Layout("narrow", 350, 220)
#: Without texts, beside the name of a case.
SPARK_WIDTH, SPARK_HEIGHT, SPARK_POINTS = 120, 24, 40
#: With more runs the intervals would be a band of ink.
MOST_INTERVALS = 400


def history_chart(series: Series) -> Markup:
    """Both layouts of a history."""
    return Markup("").join(_chart(series, layout) for layout in (WIDE, NARROW))


def _chart(series: Series, layout: Layout) -> Markup:
    values = [row["latency_ms"] for row in series.rows]
    low, high = _range(values)
    right, bottom = layout.width - layout.right, layout.height - layout.bottom

    def x(number: float) -> float:
        share = number / (len(values) - 1) if len(values) > 1 else 0.5
        return round(layout.left + 6 + share * (right - layout.left - 12), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(bottom - share * (bottom - layout.top), 1)

    parts = [
        '<text class="unit" x="4" y="13">ms</text>',
        *(_tick(layout.left, right, y(tick), tick) for tick in ticks(low, high)),
        _dates(series, layout),
    ]
    if len(values) <= MOST_INTERVALS:
        parts.append(_intervals(series, x, y))
    parts.append(_levels(series, values, x, y))
    dots = "".join(f"M{x(number):g} {y(value):g}h0" for number, value in enumerate(values))
    parts.append(f'<path class="points{" many" if len(values) > 200 else ""}" d="{dots}"/>')
    for change in series.changes:
        at = x(change.number - 0.5)
        kind = "worse" if change.share > 0 else "better"
        sign = "▲" if change.share > 0 else "▼"
        parts.append(
            f'<g class="{kind}"><line class="change" x1="{at:g}" x2="{at:g}" y1="{layout.top}" '
            f'y2="{bottom}"/><text class="mid" x="{at:g}" y="{layout.top - 6}">{sign}</text></g>'
        )
    label = (
        f"Latency of {len(values)} runs, oldest first, from {milliseconds(min(values))} to "
        f"{milliseconds(max(values))} ms, with {len(series.changes)} change points"
    )
    return Markup(  # noqa: S704 - numbers, and texts that are escaped
        f'<svg class="history {layout.kind}" viewBox="0 0 {layout.width} {layout.height}" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """What the axis shows: all values, and a twentieth of the middle at the least."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.12, median(values) * 0.05)
    return max(low - room, 0.0), high + room


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two others, at most so many."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _tick(left: float, right: float, at: float, value: float) -> str:
    return (
        f'<line class="grid" x1="{left}" x2="{right}" y1="{at:g}" y2="{at:g}"/>'
        f'<text class="end" x="{left - 6}" y="{at + 4:g}">{value:.6g}</text>'
    )


def _dates(series: Series, layout: Layout) -> str:
    """The days of the first and the last run."""
    days = [escape(row["created"][:10]) for row in (series.rows[0], series.rows[-1])]
    at, right = layout.height - 8, layout.width - layout.right
    if len(series.rows) == 1:
        return f'<text class="mid" x="{(layout.left + right) / 2:g}" y="{at}">{days[0]}</text>'
    return (
        f'<text x="{layout.left}" y="{at}">{days[0]}</text>'
        f'<text class="end" x="{right}" y="{at}">{days[1]}</text>'
    )


def _intervals(series: Series, x: _Scale, y: _Scale) -> str:
    bars = "".join(
        f"M{x(number):g} {y(row['latency_ms_low']):g}V{y(row['latency_ms_high']):g}"
        for number, row in enumerate(series.rows)
        if row["latency_ms_low"] is not None
    )
    return f'<path class="intervals" d="{bars}"/>'


def _levels(series: Series, values: Sequence[float], x: _Scale, y: _Scale) -> str:
    """Medians between the change points; none without one."""
    if not series.changes:
        return ""
    bounds = [0, *(change.number for change in series.changes), len(values)]
    lines = "".join(
        f"M{x(start):g} {y(median(values[start:end])):g}H{x(end - 1):g}"
        for start, end in pairwise(bounds)
    )
    return f'<path class="levels" d="{lines}"/>'


def sparkline(values: Sequence[float]) -> Markup:
    """The newest latencies as a line, without texts: the cells beside it hold the numbers."""
    shown = list(values[-SPARK_POINTS:])
    low, high = _range(shown)

    def at(number: int, value: float) -> str:
        share = number / (len(shown) - 1) if len(shown) > 1 else 0.5
        height = SPARK_HEIGHT - 3 - (value - low) / (high - low) * (SPARK_HEIGHT - 6)
        return f"{3 + share * (SPARK_WIDTH - 6):.1f} {height:.1f}"

    places = [at(number, value) for number, value in enumerate(shown)]
    return Markup(  # noqa: S704 - made of numbers only
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" width="{SPARK_WIDTH}" '
        f'height="{SPARK_HEIGHT}" aria-hidden="true" focusable="false">'
        f'<path class="line" d="M{"L".join(places)}"/>'
        f'<path class="last" d="M{places[-1]}h0"/></svg>'
    )
