"""Levels of processes that took turns, from each burst and the one right before it.

On a shared machine its speed changes within a tenth of a second, so a burst resembles the one
before it more than the others of its round. Field trials know the same of neighbouring plots:
Williams (1986), "A neighbour model for field experiments" (doi 10.1093/biomet/73.2.279), compares
each plot with the one beside it, in orders in which each treatment is beside each other one equally
often (`cspbench.measure.orders`). Here the levels are those that fit all these comparisons best by
Huber's criterion (1964, "Robust estimation of a location parameter", doi 10.1214/aoms/1177703732):
nearly the sum of the absolute deviations, as for a median, so bursts that were spoilt hardly move
them. A machine that slows down or speeds up steadily is fitted too: one trend a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

#: Deviations that count by their square: up to this share of what a normal one is, and at least
#: up to a hundredth of a percent.
CORNER, LEAST = 0.5, 1e-4
#: A standard deviation by the median of the absolute deviations, where they are normal.
NORMAL = 1.4826
#: Most processes of a block that are fitted, and most of them times bursts: real blocks hold a few
#: dozens with up to 400 bursts each, and a file from elsewhere costs no more than seconds.
MOST_ARMS, MOST_CELLS = 256, 10**6
#: Most rounds of reweighting, and the change at which it ends.
ITERATIONS, SETTLED = 100, 1e-6


@dataclass(frozen=True)
class Turn:
    """A burst: the number of its process, its round, when it began, log of its time."""

    arm: int
    round: int
    began: float
    log: float


#: (process of the burst before, that of the burst after, their round, log(after / before)); the
#: round is None where the one ended a round and the other began the next.
Comparison: TypeAlias = tuple[int, int, int | None, float]


def comparisons(turns: Iterable[Turn]) -> list[Comparison]:
    """Each burst against the one that began right before it, if that is another process's.

    Args:
        turns: of a block, in any order.
    """
    ordered = sorted(turns, key=lambda turn: turn.began)
    return [
        (
            before.arm,
            after.arm,
            after.round if after.round == before.round else None,
            after.log - before.log,
        )
        for before, after in pairwise(ordered)
        if before.arm != after.arm
    ]


def levels(found: Sequence[Comparison], arms: int) -> list[float] | None:
    """Logs of the times of all processes, relative to the first.

    Args:
        found: comparisons of a block, or of some of its rounds.
        arms: how many processes there are, numbered from 0.

    Returns:
        One level a process; None if the comparisons do not connect all of them. Where they cannot
        tell a trend from the levels (two that always come in one order), none is fitted.
    """
    import numpy as np

    if not found or arms > MOST_ARMS:
        return None
    before, after, logs = (np.array([each[place] for each in found]) for place in (0, 1, 3))
    rows = np.arange(len(found))
    design = np.zeros((len(found), arms))
    design[rows, after], design[rows, before] = 1, -1
    design[:, 0] = 1  # the level of the first is 0, so its place is free for the trend
    if np.linalg.matrix_rank(design) < arms:
        design = design[:, 1:]
        if np.linalg.matrix_rank(design) < arms - 1:
            return None
    weights, fitted = np.ones(len(found)), np.zeros(design.shape[1])
    for _ in range(ITERATIONS):
        weighted = design.T * weights
        last, fitted = fitted, np.linalg.solve(weighted @ design, weighted @ logs)
        if np.abs(fitted - last).max() < SETTLED:
            break
        apart = np.abs(logs - design @ fitted)
        weights = 1 / np.maximum(apart, max(CORNER * NORMAL * np.median(apart), LEAST))
    return [0.0, *map(float, fitted[design.shape[1] - arms + 1 :])]
