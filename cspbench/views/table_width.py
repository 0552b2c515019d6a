"""Which columns of a text table a narrow terminal can show. Pure functions of its cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

GAP = 2
#: A text column is not folded below this width, unless it has nothing longer.
_LEAST_TEXT = 14
#: Where an id may be folded: before the backend.
_FOLD = re.compile(r"(?=/[a-z])")


def natural_width(column: Sequence[str]) -> int:
    """Width of a column (its header among the cells) without folding."""
    from rich.cells import cell_len

    return max(cell_len(line) for cell in column for line in cell.split("\n"))


def least_width(column: Sequence[str], *, folds: bool) -> int:
    """Width below which a column cannot be read: of numbers the widest, of text its words."""
    natural = natural_width(column)
    if not folds:
        return natural
    words = max((len(word) for cell in column for word in cell.split()), default=0)
    return min(natural, max(_LEAST_TEXT, words))


def shown_columns(
    columns: Sequence[Sequence[str]], folds: Sequence[bool], width: int, low_priority: Sequence[int]
) -> list[int]:
    """Indices of the columns to show, in order.

    Args:
        columns: cells by column, headers among them.
        folds: whether a column's text may stand on several lines.
        width: of the terminal.
        low_priority: which to leave out first, least needed first; then the last ones go. The first
            column always stays.
    """
    least = [least_width(cells, folds=fold) for cells, fold in zip(columns, folds, strict=True)]
    kept = list(range(len(columns)))
    if not kept:
        return kept
    rest = [index for index in reversed(kept[1:]) if index not in low_priority]
    for index in (*low_priority, *rest):
        if sum(least[one] + GAP for one in kept) - GAP <= width:
            break
        if index in kept and len(kept) > 2:
            kept.remove(index)
    return kept


def fold_id(text: str) -> str:
    """An id on two lines, broken before its backend."""
    model, *rest = _FOLD.split(text)
    return f"{model}\n  {''.join(rest)}" if rest else text
