"""How the report writes numbers; a missing one is a dash, never 0."""

from __future__ import annotations

from cspbench.core import text
from cspbench.figures.cases import number

MISSING = "–"
#: An interval wider than this says no more than that the estimate is unknown.
WIDE = 1.0


def fixed(value: float | None, digits: int) -> str:
    """``digits`` decimals, or what keeps a small number from reading 0."""
    return MISSING if value is None else text.fixed(value, digits)


def short(value: float | None) -> str:
    """Three significant digits."""
    return MISSING if value is None else number(value)


def milliseconds(value: float | None) -> str:
    """Latency with as many decimals as the size deserves: 0.0123, 1.234, 12.34, 123.4."""
    if value is None:
        return MISSING
    if value < 1:
        return f"{value:.3g}"
    return f"{value:.{3 if value < 10 else 2 if value < 100 else 1}f}"


def plus_minus(share: float | None) -> str:
    """Half width of an interval: ``±3.1 %``."""
    if share is None:
        return MISSING
    if share > WIDE:
        return ">±100 %"
    return f"±{text.percent(share, 1 if share < 0.1 else 0)}"


def percent(share: float | None, digits: int = 0) -> str:
    """A change with its sign: ``+12 %``, ``−3 %``."""
    return MISSING if share is None else text.percent(share, digits, signed=True, minus="−")


def size(count: float | None) -> str:
    """Bytes in binary units: ``3.1 MiB``."""
    if count is None:
        return MISSING
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{number(count)} {unit}"
        count /= 1024
    return f"{number(count)} GiB"


def times(ratio: float) -> str:
    """``2.3 times``."""
    return f"{number(ratio)} times"


def minus(text: str) -> str:
    """A real minus sign where a number is negative."""
    return "".join(
        "−" if sign == "-" and following.isdigit() and (before in " (" or not before) else sign
        for before, sign, following in zip(" " + text[:-1], text, text[1:] + " ", strict=True)
    )
