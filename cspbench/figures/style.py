"""House style of all figures: palette, shapes, type, and the two files that a figure becomes.

Colours keep a contrast of at least 3 to 1 on white and on the report's dark ground (tested), and
series differ in shape as well as in colour. Neutral ink becomes ``currentColor`` in SVG, so a
figure takes the colour of the text around it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from cspbench.core.files import write_output
from cspbench.figures import sizes
from cspbench.figures import svg as svg_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Text and axes; every occurrence becomes currentColor in SVG.
INK = svg_files.INK
#: Published points, grid lines and what else stays in the background.
MUTED = "#7d8590"
BLUE, ORANGE, GREEN, PINK, RED, OLIVE = (
    "#2f7fd0", "#d4700f", "#12916b", "#e0559a", "#d6456a", "#8a8410",
)  # fmt: skip
#: Series in order of use, each with a shape of its own.
PALETTE = (BLUE, ORANGE, GREEN, PINK, RED, OLIVE)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Bars of several series differ by these as well; the hatch is drawn in a translucent ink.
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
HATCH_INK = "#00000066"
LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), "-")

_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 7,
    "path.simplify": False,
    "pdf.fonttype": 42,  # text stays text, which journals ask for
    "svg.fonttype": "none",
    "text.color": INK,
    # A case id may hold a dollar sign; it is not mathematics.
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}

#: Forms of a figure's file.
FORMS = ("svg", "png", "pdf")
#: Dots of a PNG for an inch.
DPI = 160

P = ParamSpec("P")


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Use the house style, and nothing that a matplotlibrc says."""
    with _standing_elsewhere():  # matplotlib reads the one of the working directory when it loads
        import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        # The page's own fonts may have what DejaVu Sans lacks; a box is shown otherwise.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@contextlib.contextmanager
def _standing_elsewhere() -> Iterator[None]:
    """Leave the working directory until the block ends, unless matplotlib is loaded already."""
    if "matplotlib" in sys.modules:
        yield
        return
    here = Path.cwd()
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(here)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a drawing function: it runs in the house style."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house_style():
            return draw(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches, laid out so that nothing is cut.

    Within `sizes.drawn_for` it has the canvas of that size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=sizes.canvas(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def freeze_layout(figure: Figure) -> None:
    """Do the layout now and once, so that places on paper are known."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # the house style has none by default


def color(index: int) -> str:
    """Colour of series ``index``."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """Shape of series ``index``; shapes go on changing where colours repeat."""
    return MARKERS[index % len(MARKERS)]


def only_grid(axes: Axes, axis: str) -> None:
    """Keep the grid lines of one axis: the one on which values are read."""
    axes.grid(False, axis="y" if axis == "x" else "x")


def log_scales(axes: Axes) -> None:
    """Logarithmic axes with plain numbers; matplotlib's own labels would be formulas in TeX."""
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda *_: "")


def svg_bytes(figure: Figure, name: str) -> bytes:
    """The figure as matplotlib's SVG; the same data give the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with house_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        freeze_layout(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def save(
    figure: Figure,
    name: str,
    folder: Path,
    title: str = "",
    forms: Sequence[str] = ("svg", "png"),
    size: sizes.PaperSize | None = None,
) -> list[Path]:
    """Write a figure: SVG for light and dark ground, PNG and PDF for a white one.

    Args:
        figure: what is drawn, with `sizes.drawn_for` the same size.
        name: name of the files; that of the size is added.
        folder: where they are written.
        title: read by screen readers.
        forms: of FORMS.
        size: SVG and PNG have its width; a PDF has its canvas, and scales without loss.

    Raises:
        InputError: one cannot be written.
    """
    stem = name if size is None else f"{name}-{size.name}"
    paths = []
    for form in forms:
        path = folder / f"{stem}.{form}"
        write_output(path, _content(figure, name, title or name, form, size), folder=True)
        paths.append(path)
    return paths


def _content(
    figure: Figure, name: str, title: str, form: str, size: sizes.PaperSize | None
) -> str | bytes:
    if form == "svg":
        inches = None if size is None else size.width
        return svg_files.standalone(svg_bytes(figure, name), name, title, inches=inches)
    scale = 1.0 if size is None else size.width / figure.get_figwidth()
    image = io.BytesIO()
    with house_style():
        if form == "png":
            metadata = {"Software": None}
            figure.savefig(
                image, format="png", dpi=DPI * scale, facecolor="white", metadata=metadata
            )
        else:
            metadata = dict.fromkeys(("Creator", "Producer", "CreationDate"))
            figure.savefig(image, format="pdf", metadata=metadata)
    return image.getvalue()


def smallest_points(figure: Figure, size: sizes.PaperSize) -> float:
    """Size of the smallest text once the figure has its size, in points."""
    from matplotlib.text import Text

    texts = (text for text in figure.findobj(Text) if isinstance(text, Text))
    drawn = [text.get_fontsize() for text in texts if text.get_visible() and text.get_text()]
    return float(min(drawn, default=10.0)) * size.width / float(figure.get_figwidth())


def thin_bars(
    axes: Axes, heights: Sequence[float], width: float, *, offset: float = 0.0, **look: Any
) -> None:
    """Bars by layer, ``width`` points wide; one collection, because networks have many layers."""
    from matplotlib.collections import LineCollection

    lines = [[(x + offset, 0.0), (x + offset, height)] for x, height in enumerate(heights)]
    axes.add_collection(LineCollection(lines, linewidths=width, **look))


def draw_intervals(
    axes: Axes, bounds: Sequence[tuple[float, float, float]], color: str = INK
) -> None:
    """Horizontal whiskers, each (y, low, high); an arrow head where one leaves the panel."""
    if not bounds:
        return
    limit = axes.get_xlim()[1]
    ends = [(y, low, min(high, limit)) for y, low, high in bounds]
    axes.hlines(*zip(*ends, strict=True), color=color, linewidth=1.2)
    strokes = [(low, y) for y, low, _ in bounds]
    strokes += [(high, y) for y, _, high in bounds if high <= limit]
    beyond = [(limit, y) for y, _, high in bounds if high > limit]
    for points, marker, size in ((strokes, "|", 6), (beyond, ">", 5)):
        if points:
            axes.plot(
                *zip(*points, strict=True), color=color, linestyle="none", marker=marker,
                markersize=size, clip_on=marker == "|",
            )  # fmt: skip
