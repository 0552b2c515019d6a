"""Pairs of cases that a section of the report explains: the first ones, and how many are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from cspbench.errors import InputError
from cspbench.report.rows import CaseRow
from cspbench.views.frames import Run

Pair = tuple[Run, CaseRow, CaseRow]
T = TypeVar("T")

#: Of more pairs than this each one is folded.
MOST_OPEN = 2


def first_explained(
    pairs: Iterable[Pair], most: int, explain: Callable[[Run, CaseRow, CaseRow], T | None]
) -> tuple[list[T], int]:
    """Explain the first ``most`` pairs; the second value counts the pairs behind them.

    Pairs that cannot be explained, for want of ceilings or by an analysis of another version, are
    passed over; so are those of which ``explain`` makes None.
    """
    found: list[T] = []
    more = 0
    for pair in pairs:
        if len(found) >= most:
            more += 1
            continue
        try:
            explained = explain(*pair)
        except InputError:
            continue
        if explained is not None:
            found.append(explained)
    return found, more
