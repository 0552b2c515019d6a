"""Where a figure is to stand: on a slide, in a column of a paper, on a poster.

A figure is drawn on a canvas, with text of 8 to 11 points, and then scaled to its size. A small
canvas on a large paper gives large text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

#: A canvas below this width, in inches, has its panels one below the other.
NARROW = 6.0
#: How far a figure is pressed together where its height is fixed.
SQUEEZE = 0.6


@dataclass(frozen=True)
class PaperSize:
    """A size by name, in inches; without a height a figure is as tall as its content.

    ``canvas`` is the width that it is drawn on, ``least_points`` the smallest text that is
    readable there.
    """

    name: str
    width: float
    height: float | None
    canvas: float
    least_points: float

    def canvas_of(self, height: float) -> tuple[float, float]:
        """Width and height of the canvas of a figure that needs this height.

        Where the height is fixed, rows come closer together, to a limit; a figure with more content
        gets a larger canvas of the same shape.
        """
        if self.height is None:
            return self.canvas, height
        shape = self.width / self.height
        tall = max(SQUEEZE * height, self.canvas / shape)
        return tall * shape, tall


SIZES = {
    size.name: size
    for size in (
        PaperSize("slide", 13.333, 7.5, 8.0, 12.0),  # 16:9, as the slides of office programs
        PaperSize("column", 3.5, None, 4.6, 6.0),  # one of two columns of a conference paper
        PaperSize("poster", 24.0, None, 10.0, 18.0),  # A1 upright, margins left
    )
}
_current: ContextVar[PaperSize | None] = ContextVar("size", default=None)


@contextlib.contextmanager
def drawn_for(size: PaperSize | None) -> Iterator[None]:
    """Draw the figures of the block for a size; for a page without one."""
    token = _current.set(size)
    try:
        yield
    finally:
        _current.reset(token)


def canvas(width: float, height: float) -> tuple[float, float]:
    """The canvas for a figure that a page shows in this width and height."""
    size = _current.get()
    return (width, height) if size is None else size.canvas_of(height)


def columns(most: int) -> int:
    """How many panels stand side by side."""
    size = _current.get()
    return 1 if size is not None and size.canvas < NARROW else most
