"""Labels beside points that cover neither one another nor the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cspbench.figures.cases import spread
from cspbench.figures.style import INK

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Edges = NDArray[np.float64]  # left, bottom, right, top: a row each

#: Half the size of a point with its air, and the height of a line, in points (1/72 inch).
_MARK = 5.0
_LINE = 10.5
#: More labels in one panel cannot be read: every second point, or third, has one.
MAX_LABELS = 40
#: Where else a label may be: on rings around its point, in so many directions.
_RINGS, _TURNS = (14.0, 24.0, 38.0, 56.0, 80.0), 12
#: Cost of a point of distance: seven are as bad as covering a tenth of a mark.
_FAR_COSTS = 0.3 * _MARK
#: A label that covers more of others, as a share of its area, is left out.
_MOST_COVERED = 0.15
#: A label further away than this, in points, has a line to its point.
_NEAR = _MARK + 2
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "color": INK, "alpha": 0.6, "shrinkA": 0,
           "shrinkB": 3}  # fmt: skip
#: Mean width of a character as a share of the font size (DejaVu Sans, the widest in use).
_CHARACTER = 0.62


class Box(NamedTuple):
    """A rectangle by its edges."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, others: Edges) -> float:
        """Area that it and others, a row of edges each, both cover; summed over the others."""
        import numpy as np

        left, bottom, right, top = others.T
        width = np.minimum(self.right, right) - np.maximum(self.left, left)
        height = np.minimum(self.top, top) - np.maximum(self.bottom, bottom)
        return float((np.maximum(width, 0) * np.maximum(height, 0)).sum())

    def distance(self, x: float, y: float) -> float:
        """How far a point is from its nearest edge; 0 inside."""
        return math.hypot(
            max(self.left - x, 0, x - self.right), max(self.bottom - y, 0, y - self.top)
        )


def place(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    frame: Box,
    others: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float] | None]:
    """Left lower corners of labels, each beside its point, or at a distance where that is full.

    Greedy: labels are placed one after the other where they cover least of the points and of the
    labels placed before, and lie least outside the frame; near ones first. None for a label that
    would cover others all the same: half a crowd that can be read is better than a whole one.
    ``others`` are further points that no label should cover; all are in one square unit.
    """
    import numpy as np

    centres = np.array([*points, *others], dtype=float)
    marks = np.hstack([centres - _MARK, centres + _MARK])
    edges = np.array([frame])
    placed = np.empty((0, 4))
    corners: list[tuple[float, float] | None] = []
    for (x, y), width in zip(points, widths, strict=True):
        box = _cheapest(x, y, width, marks, placed, edges)
        if box.overlap(placed) > _MOST_COVERED * width * _LINE:
            corners.append(None)
            continue
        corners.append((box.left, box.bottom))
        placed = np.vstack([placed, box])
    return corners


def _candidates(x: float, y: float, width: float) -> Iterator[tuple[float, float]]:
    away, middle = _MARK + 2, y - _LINE / 2
    above, below = y + _MARK, y - _MARK - _LINE
    yield from [(x + away, middle), (x - away - width, middle), (x + 3, above), (x + 3, below)]
    yield from [(x - 3 - width, above), (x - 3 - width, below)]
    for radius in _RINGS:
        for turn in range(_TURNS):
            across, up = (
                radius * share(2 * math.pi * turn / _TURNS) for share in (math.cos, math.sin)
            )
            # The side or the corner that is nearest to the point lies on the ring.
            beside = 0 if across > radius / 4 else width if across < -radius / 4 else width / 2
            yield x + across - beside, middle + up


def _cheapest(x: float, y: float, width: float, marks: Edges, placed: Edges, frame: Edges) -> Box:
    """The box of a label that covers least; distance counts too, so near ones win."""
    least, cheapest = math.inf, Box(x, y, x + width, y + _LINE)
    for left, bottom in _candidates(x, y, width):
        box = Box(left, bottom, left + width, bottom + _LINE)
        covered = _covered(box, marks, placed, frame)
        cost = covered + _FAR_COSTS * box.distance(x, y)
        if cost < least:
            least, cheapest = cost, box
        if covered == 0:  # those that follow are no nearer
            break
    return cheapest


def _covered(box: Box, marks: Edges, placed: Edges, frame: Edges) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(frame)
    return 5 * outside + box.overlap(marks) + 3 * box.overlap(placed)


def label_points(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write ``texts`` beside ``points``, as many as can be read; the layout must be final.

    ``others`` are further points that no text should cover. All are in data coordinates.
    """
    if not points:
        return
    others = (*others, *points) if len(points) > MAX_LABELS else others
    points, texts = spread(points, MAX_LABELS), spread(texts, MAX_LABELS)
    size = 8.0
    scale = 72 / figure.dpi
    pixels = _on_paper(axes, points, scale)
    widths = [len(text) * size * _CHARACTER for text in texts]
    corners = place(
        pixels,
        widths,
        Box(*(float(edge) * scale for edge in axes.get_window_extent().extents)),
        _on_paper(axes, others, scale),
    )
    for (x, y), width, corner, point, text in zip(
        pixels, widths, corners, points, texts, strict=True
    ):
        if corner is None:
            continue
        left, bottom = corner
        away = Box(left, bottom, left + width, bottom + _LINE).distance(x, y)
        # The width is the widest that a font may have: the text begins at the point's side of it.
        side, start = ("right", left + width) if left + width / 2 < x else ("left", left)
        axes.annotate(
            text, point, (start - x, bottom - y + 2), textcoords="offset points",
            fontsize=size, ha=side, va="bottom", arrowprops=_LEADER if away > _NEAR else None,
        )  # fmt: skip


def along(line: Sequence[tuple[float, float]], steps: int = 10) -> list[tuple[float, float]]:
    """Points along a line, so that labels can keep off it; the ends are left out."""
    return [
        (x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps)
        for (x0, y0), (x1, y1) in itertools.pairwise(line)
        for step in range(1, steps)
    ]


def _on_paper(
    axes: Axes, points: Sequence[tuple[float, float]], scale: float
) -> list[tuple[float, float]]:
    """Data coordinates as points (1/72 inch) from the figure's corner."""
    if not points:
        return []
    return [(float(x) * scale, float(y) * scale) for x, y in axes.transData.transform(points)]
