"""Forest plot: every case's ratio with its interval on one logarithmic axis, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from cspbench.core.text import printable
from cspbench.gating.render.text import SIGNS, change_text, range_text
from cspbench.gating.verdict import CaseVerdict

_TOP, _BOTTOM = 34, 40
#: The axis shows at least this much, and no more than a factor of four.
_LEAST, _MOST = math.log(1.10), math.log(4.0)
#: Candidates for ticks, in percent.
_TICKS = (-75, -50, -30, -20, -10, -5, -3, 0, 3, 5, 10, 20, 30, 50, 100, 200, 300)
_TICK_GAP = 48


@dataclass(frozen=True)
class Layout:
    """Where things are, in the units of the picture.

    The axis runs from ``left`` to ``right``; in a row the name's line is ``name_at`` and the bar
    ``bar_at`` below its top.
    """

    kind: str
    width: int
    left: int
    right: int
    row: int
    name_at: int
    bar_at: int
    name_characters: int


#: Names beside the bars, and for a telephone above them; the style sheet shows one of the two.
WIDE = Layout("wide", 960, 430, 890, 26, 17, 13, 58)
NARROW = Layout("narrow", 420, 14, 350, 46, 16, 30, 56)


def forest_plot(
    verdicts: Sequence[CaseVerdict], min_effect: float, tolerance: float, layout: Layout = WIDE
) -> str:
    """Return an ``<svg>`` element, or a sentence if no case has a ratio.

    The band is the tolerance, the dashed lines the smallest effect; a diamond is the estimate, the
    bar its 95 % interval, an arrow the end of the axis.
    """
    rows = [verdict for verdict in verdicts if verdict.ratio is not None]
    if not rows:
        return "<p>No case was timed on both sides.</p>"
    span = _span(rows, tolerance)
    left, right = layout.left, layout.right
    height = _TOP + layout.row * len(rows) + _BOTTOM

    def x(ratio: float) -> float:
        share = (math.log(ratio) + span) / (2 * span)
        return left + min(max(share, 0.0), 1.0) * (right - left)

    bottom = height - _BOTTOM
    low, high = x(1 / (1 + tolerance)), x(1 + tolerance)
    parts = [
        (
            f'<svg class="forest {layout.kind}" viewBox="0 0 {layout.width} {height}" role="img" '
            'aria-label="Ratios of head to base with their intervals">'
        ),
        (
            f'<rect class="band" x="{low:.1f}" y="{_TOP}" width="{high - low:.1f}" '
            f'height="{bottom - _TOP}"/>'
        ),
        _line(x(1.0), _TOP, x(1.0), bottom, "one"),
        *(
            _line(x(r), _TOP, x(r), bottom, "effect")
            for r in (1 / (1 + min_effect), 1 + min_effect)
        ),
        f'<text class="axis" x="{left}" y="18">faster</text>',
        f'<text class="axis end" x="{right}" y="18">slower</text>',
        *_ticks(x, span, bottom),
        *(part for number, row in enumerate(rows) for part in _row(row, x, number, layout)),
        "</svg>",
    ]
    return "\n".join(parts)


def _span(rows: Sequence[CaseVerdict], tolerance: float) -> float:
    """Half of the axis, as a log-ratio."""
    ends = [r for v in rows for r in (v.ratio, v.ratio_low, v.ratio_high) if r]
    furthest = max(abs(math.log(end)) for end in ends)
    return min(max(furthest * 1.08, math.log1p(tolerance) * 1.5, _LEAST), _MOST)


def _ticks(x: Callable[[float], float], span: float, bottom: float) -> list[str]:
    parts: list[str] = []
    taken: list[float] = []
    for percent in sorted(_TICKS, key=abs):
        ratio = 1 + percent / 100
        at = x(ratio)
        if abs(math.log(ratio)) > span or any(abs(at - other) < _TICK_GAP for other in taken):
            continue
        taken.append(at)
        parts.append(_line(at, bottom, at, bottom + 5, "tick"))
        parts.append(
            f'<text class="axis mid" x="{at:.1f}" y="{bottom + 20}">{percent:+d} %</text>'
            if percent
            else f'<text class="axis mid" x="{at:.1f}" y="{bottom + 20}">0</text>'
        )
    return parts


def _row(
    verdict: CaseVerdict, x: Callable[[float], float], number: int, layout: Layout
) -> list[str]:
    assert verdict.ratio is not None
    top = _TOP + layout.row * number
    y, name_y, most = top + layout.bar_at, top + layout.name_at, layout.name_characters
    name = printable(verdict.case)
    shown = name if len(name) <= most else f"{name[: most - 1]}…"
    title = f"{name}: {verdict.verdict}, {change_text(verdict)} ({range_text(verdict)})"
    parts = [
        f'<g class="{verdict.verdict.value}"><title>{escape(title)}</title>',
        f'<text class="name" x="8" y="{name_y}">{SIGNS[verdict.verdict]} {escape(shown)}</text>',
    ]
    if verdict.ratio_low is not None and verdict.ratio_high is not None:
        parts.append(_line(x(verdict.ratio_low), y, x(verdict.ratio_high), y, "interval"))
    at = x(verdict.ratio)
    parts.append(f'<path class="mark" d="M{at - 6:.1f} {y}L{at:.1f} {y - 6}L{at + 6:.1f} {y}'
                 f'L{at:.1f} {y + 6}Z"/>')  # fmt: skip
    parts.append(
        f'<text class="axis" x="{layout.right + 8}" y="{y + 4}">{change_text(verdict)}</text></g>'
    )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
