"""The smallest slowdown that the gate finds, given how much its blocks scatter.

By simulation of the gate's own rule: a first measurement with its interim analyses, and a second
one that is to confirm it. Blocks are normal and independent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean

from cspbench.gating.decide import INTERIM_ANALYSES, Finding, InterimAnalysis, find
from cspbench.suite.suite import Gate

#: How often a slowdown is to be found, and simulated gates, whose share errs by 0.7 % then.
POWER, GATES = 0.95, 1000
#: Steps of bisection: of a range of a factor of two, to 0.2 %.
_STEPS = 9


def smallest_effect(
    spread: float, gate: Gate, interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES
) -> float:
    """Slowdown, as a share, that the gate confirms in 95 % of gates.

    Args:
        spread: standard deviation of one block, as a log-ratio.
        gate: smallest effect and tolerance.
        interim: the analyses of each of the two measurements.
    """
    draw, most = random.Random(0), interim[-1].blocks  # noqa: S311 - no secret
    noise = [
        [[draw.gauss(0.0, spread) for _ in range(most)] for _ in range(2)] for _ in range(GATES)
    ]

    def is_found(effect: float) -> bool:
        hits = sum(_confirmed(effect, pair, gate, interim) for pair in noise)
        return hits >= POWER * GATES

    low, high = 0.0, math.log1p(gate.min_effect)
    while not is_found(high):
        low, high = high, 2 * high
    for _ in range(_STEPS if low else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return math.expm1(high)


def _confirmed(
    effect: float, noise: Sequence[Sequence[float]], gate: Gate, interim: Sequence[InterimAnalysis]
) -> bool:
    """Whether both measurements of a gate find a slowdown of that size."""
    earlier: float | None = None
    for measurement in noise:
        earlier = _slower(effect, measurement, gate, interim, earlier)
        if earlier is None:
            return False
    return True


def _slower(
    effect: float,
    noise: Sequence[float],
    gate: Gate,
    interim: Sequence[InterimAnalysis],
    earlier: float | None,
) -> float | None:
    """The estimate of a measurement that ends with ``slower``; None if it ends otherwise."""
    for analysis in interim:
        estimates = [effect + one for one in noise[: analysis.blocks]]
        finding = find(estimates, gate.min_effect, gate.tolerance, interim, earlier)
        if finding is not Finding.GO_ON:
            return fmean(estimates) if finding is Finding.SLOWER else None
    return None
