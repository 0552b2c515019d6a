"""Which cases of several differ, all pairs compared together, and letters that say so."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

from cspbench.measure.ratios import CONFIDENCE, centre
from cspbench.measure.statistics import deviation


@functools.cache
def tukey_quantile(cases: int, freedom: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile for the differences of all pairs of cases, from the studentized range.

    Tukey (1953), "The problem of multiple comparisons"; divided by sqrt(2), so that it applies to
    the standard error of a difference, as Student's does.
    """
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(confidence, cases, freedom)) / math.sqrt(2)


def told_apart(logs: Mapping[str, Mapping[str, float]]) -> set[frozenset[str]]:
    """Pairs of cases whose difference over their common blocks is significant, all pairs together.

    Each pair has its own standard error, because backends differ a hundredfold in their scatter
    (Games & Howell 1976 do so for unpaired groups).

    Args:
        logs: case -> block -> log of its time relative to anything common to the block.
    """
    names = list(logs)
    found = set()
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            common = logs[one].keys() & logs[other].keys()
            shifts = [logs[one][block] - logs[other][block] for block in common]
            if len(shifts) < 2:
                continue
            reach = tukey_quantile(len(names), len(shifts) - 1) * deviation(shifts)
            if abs(centre(shifts)) > reach / math.sqrt(len(shifts)):
                found.add(frozenset((one, other)))
    return found


def groups(ordered: Sequence[str], apart: set[frozenset[str]]) -> dict[str, str]:
    """Compact letters: cases that share a letter cannot be told apart.

    Piepho (2004), "An algorithm for a letter-based representation of all-pairwise comparisons" (doi
    10.1198/1061860043515): begin with one column that holds all cases; for each pair that differs,
    split every column that holds both; drop columns that another one contains.

    Args:
        ordered: the cases, fastest first: the fastest has the letter a.
        apart: the pairs that differ.
    """
    columns = [set(ordered)]
    for pair in sorted(apart, key=sorted):
        one, other = sorted(pair)
        split = []
        for column in columns:
            split += [column - {one}, column - {other}] if pair <= column else [column]
        columns = []
        for column in split:
            if not any(column <= kept for kept in columns):
                columns = [kept for kept in columns if not kept <= column] + [column]
    place = {name: number for number, name in enumerate(ordered)}
    columns.sort(key=lambda column: sorted(place[name] for name in column))
    letters = dict.fromkeys(ordered, "")
    for number, column in enumerate(columns):
        for name in column:
            letters[name] += _letter(number)
    return letters


def _letter(number: int) -> str:
    """A to z, then a1 to z1 and so on."""
    return chr(ord("a") + number % 26) + (str(number // 26) if number >= 26 else "")
