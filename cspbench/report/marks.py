"""Small drawings inside table cells, as SVG without style attributes (the page's CSP forbids them).

Colours come from the page's style sheet by class.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

#: Every row's spread is drawn on this scale, so that rows compare at a glance.
SPREAD_LIMIT = 0.20
_WIDTH, _HEIGHT, _BAR_WIDTH = 80, 18, 40


def spread(
    estimate: float, low: float | None, high: float | None, launch_values: Sequence[float]
) -> Markup:
    """Launch values (dots) over the interval (bar), relative to the estimate, in one unit."""
    parts = [
        f'<line class="axis" x1="{_WIDTH / 2:g}" x2="{_WIDTH / 2:g}" y1="1" y2="{_HEIGHT - 1}"/>'
    ]
    if low is not None and high is not None:
        parts.append(_interval(low / estimate - 1, high / estimate - 1))
    parts += [_dot(value / estimate - 1) for value in launch_values]
    return _svg("spread", parts)


def _x(share: float) -> float:
    bounded = max(-SPREAD_LIMIT, min(SPREAD_LIMIT, share))
    return round(_WIDTH / 2 + bounded / SPREAD_LIMIT * (_WIDTH / 2 - 6), 1)


def _interval(low: float, high: float) -> str:
    left, right, middle = _x(low), _x(high), _HEIGHT / 2
    bar = (
        f'<rect class="ci" x="{left:g}" y="{middle - 4:g}" width="{max(right - left, 1):g}" '
        'height="8" rx="2"/>'
    )
    if low < -SPREAD_LIMIT:
        bar += f'<path class="over" d="M{left - 1:g} {middle - 4:g}l-4 4 4 4z"/>'
    if high > SPREAD_LIMIT:
        bar += f'<path class="over" d="M{right + 1:g} {middle - 4:g}l4 4 -4 4z"/>'
    return bar


def _dot(share: float) -> str:
    if abs(share) > SPREAD_LIMIT:
        return ""  # the arrow at the edge says that something lies outside
    return f'<circle class="dot" cx="{_x(share):g}" cy="{_HEIGHT / 2:g}" r="2.2"/>'


def bar(value: float, largest: float) -> Markup:
    """A bar of ``value`` on the scale from zero to ``largest``."""
    width = 0 if largest <= 0 else round(value / largest * _BAR_WIDTH, 1)
    return _svg(
        "bar", [f'<rect class="fill" y="5" width="{width:g}" height="8" rx="1"/>'], _BAR_WIDTH
    )


def _svg(kind: str, parts: Sequence[str], width: int = _WIDTH) -> Markup:
    # The numbers drawn stand in the cells beside it, so it is hidden from screen readers.
    return Markup(  # noqa: S704 - made of numbers only
        f'<svg class="{kind}" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}" '
        f'aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )
