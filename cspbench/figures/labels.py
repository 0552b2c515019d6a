"""Labels beside points that cover neither one another nor the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cspbench.figures.cases import spread

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


def place(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    frame: Box,
    others: Sequence[tuple[float, float]] = (),
) -> list[tuple[float, float]]:
    """Left lower corners of labels, each beside its point.

    Greedy: labels are placed one after the other where they cover least of the points and of the
    labels placed before, and lie least outside the frame; to the right comes first.

    Args:
        points: centres in any square unit.
        widths: label widths, in the same unit.
        frame: where labels should stay.
        others: further points that no label should cover.
    """
    import numpy as np

    centres = np.array([*points, *others], dtype=float)
    marks = np.hstack([centres - _MARK, centres + _MARK])
    edges = np.array([frame])
    placed = np.empty((0, 4))
    for (x, y), width in zip(points, widths, strict=True):
        boxes = [
            Box(left, bottom, left + width, bottom + _LINE)
            for left, bottom in _candidates(x, y, width)
        ]
        placed = np.vstack([placed, _cheapest(boxes, marks, placed, edges)])
    return [(float(left), float(bottom)) for left, bottom, _, _ in placed]


def _candidates(x: float, y: float, width: float) -> list[tuple[float, float]]:
    away, middle = _MARK + 2, y - _LINE / 2
    above, below = y + _MARK, y - _MARK - _LINE
    near = [(x + away, middle), (x - away - width, middle), (x + 3, above), (x + 3, below)]
    near += [(x - 3 - width, above), (x - 3 - width, below)]
    far = [(x + away, middle + _LINE), (x + away, middle - _LINE), (x + away, middle - 2 * _LINE)]
    far += [(x - away - width, middle + lines * _LINE) for lines in (1, -1, 2, -2)]
    return near + far


def _cheapest(boxes: Sequence[Box], marks: Edges, placed: Edges, frame: Edges) -> Box:
    """The first of the boxes that cover least."""
    least, found = math.inf, boxes[0]
    for box in boxes:
        cost = _cost(box, marks, placed, frame)
        if cost < least:
            least, found = cost, box
        if cost == 0:
            break
    return found


def _cost(box: Box, marks: Edges, placed: Edges, frame: Edges) -> float:
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
    """Write ``texts`` beside ``points``; the figure's layout must be final.

    Args:
        figure: the figure.
        axes: where the points are.
        points: in data coordinates.
        texts: one a point.
        others: further points that no text should cover, in data coordinates.
    """
    if not points:
        return
    others = (*others, *points) if len(points) > MAX_LABELS else others
    points, texts = spread(points, MAX_LABELS), spread(texts, MAX_LABELS)
    size = 8.0
    scale = 72 / figure.dpi
    pixels = _on_paper(axes, points, scale)
    corners = place(
        pixels,
        [len(text) * size * _CHARACTER for text in texts],
        Box(*(float(edge) * scale for edge in axes.get_window_extent().extents)),
        _on_paper(axes, others, scale),
    )
    for (x, y), (left, bottom), point, text in zip(pixels, corners, points, texts, strict=True):
        axes.annotate(
            text, point, (left - x, bottom - y + 2), textcoords="offset points",
            fontsize=size, ha="left", va="bottom",
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
