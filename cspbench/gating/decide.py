"""The statistics of the gate: pure functions from measured bursts to a decision.

A *generation* is a pair of live processes that took bursts in turn (``cspbench.runner.duet``). The
unit of evidence is the generation, not the burst: bursts of one generation share everything that a
process draws once (memory layout, page placement), so only generations are independent. Kalibera &
Jones (2013), "Rigorous benchmarking in reasonable time", say why repetition belongs at that level;
Bulej et al. (2020), "Duet benchmarking: improving measurement accuracy in the cloud", why the two
sides must run at the same time.

All effects are logarithms of head / base: 0 is no change, ``log(1.05)`` is 5 % slower, and a
slowdown and the speed-up that undoes it have the same size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, median

from cspbench.measure.statistics import between_runs


class Finding(str, Enum):
    """What the data of one case say."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    GO_ON = "go on"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Look:
    """After how many generations the data are looked at, and the one-sided error spent there."""

    generations: int
    alpha: float


#: Three looks that together spend 2.9 % on each side. The union bound makes the sum hold whatever
#: the correlation between looks; spending little early is Lan & DeMets (1983), "Discrete
#: sequential boundaries for clinical trials".
LOOKS = (Look(4, 0.001), Look(8, 0.008), Look(16, 0.02))
#: Confidence of each one-sided bound that must lie within the tolerance for "same" ...
SAME_CONFIDENCE = 0.99
#: ... and at the last look, where the alternative is to say nothing.
SAME_CONFIDENCE_LAST = 0.95


@dataclass(frozen=True)
class Decision:
    """A finding with the numbers that it rests on, all as log-ratios.

    ``low`` and ``high`` bound the two-sided 95 % Student interval over generations, ``p_slower``
    is valid whenever one stopped (:func:`sequential_p`); None with fewer than two generations.
    """

    finding: Finding
    estimate: float
    low: float | None
    high: float | None
    p_slower: float | None
    generations: int


def generation_estimate(base_ns: Sequence[float], head_ns: Sequence[float]) -> float:
    """Median over burst pairs of log(head / base).

    Args:
        base_ns: time of an inference in each of the base's bursts.
        head_ns: the same of the head; item i ran next to item i of the base.

    Raises:
        ValueError: no pairs, unequal numbers, or a time that is not positive.
    """
    if not base_ns or len(base_ns) != len(head_ns):
        raise ValueError(f"{len(base_ns)} bursts of the base and {len(head_ns)} of the head")
    if min(*base_ns, *head_ns) <= 0:
        raise ValueError("times must be positive")
    return median(math.log(head / base) for base, head in zip(base_ns, head_ns, strict=True))


def stdev(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); quicker than the exact arithmetic of ``statistics``."""
    centre = fmean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


@functools.cache
def _student_quantile(freedom: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, confidence))


def student_bound(values: Sequence[float], confidence: float) -> float:
    """Distance from the mean to a one-sided Student bound: t(confidence, n - 1) * s / sqrt(n).

    Student (1908), "The probable error of a mean".

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs two values")
    quantile = _student_quantile(len(values) - 1, confidence)
    return quantile * stdev(values) / math.sqrt(len(values))


def p_value(values: Sequence[float]) -> float:
    """One-sided p-value of Student's test that the mean is at most 0."""
    if len(values) < 2:
        return 1.0
    centre, spread = fmean(values), stdev(values)
    if spread == 0:
        return 0.0 if centre > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(len(values) - 1, -centre / (spread / math.sqrt(len(values)))))


def sequential_p(estimates: Sequence[float], looks: Sequence[Look] = LOOKS) -> float | None:
    """P-value of "slower" that stays valid although one stops at the first look that decides.

    It is the smallest total error at which these looks, their alphas scaled together, would have
    rejected: ``sum(alpha) * min(p_k / alpha_k)`` over the looks made. By the union bound it is at
    most x with probability x at most, if nothing changed.

    Returns:
        None before the first look.
    """
    spent = sum(look.alpha for look in looks)
    ratios = [
        p_value(estimates[: look.generations]) / look.alpha
        for look in looks
        if look.generations <= len(estimates)
    ]
    return min(1.0, spent * min(ratios)) if ratios else None


def decide(
    estimates: Sequence[float],
    min_effect: float,
    tolerance: float,
    looks: Sequence[Look] = LOOKS,
) -> Decision:
    """What the generations so far say of one case.

    In this order: ``slower`` if the lower bound at this look's alpha is above 0 and the estimate at
    least ``min_effect``; ``faster`` likewise; ``same`` if both one-sided 99 % bounds (95 % at the
    last look) lie within the tolerance, which is the two one-sided tests procedure of Schuirmann
    (1987); else go on, and after the last look ``inconclusive``. Between looks: go on.

    Args:
        estimates: one log-ratio a generation, in order.
        min_effect: smallest share that counts as slower or faster.
        tolerance: a change that surely lies within this share is the same.
        looks: when to look, ascending.
    """
    look = next((look for look in looks if look.generations == len(estimates)), None)
    finding = Finding.GO_ON
    if look is not None:
        finding = _at_look(estimates, look, look is looks[-1], min_effect, tolerance)
    low = high = None
    estimate = fmean(estimates) if estimates else 0.0
    if len(estimates) >= 2:
        half = student_bound(estimates, 0.975)
        low, high = estimate - half, estimate + half
    p_slower = sequential_p(estimates, looks)
    return Decision(finding, estimate, low, high, p_slower, len(estimates))


def _at_look(
    estimates: Sequence[float], look: Look, last: bool, min_effect: float, tolerance: float
) -> Finding:
    centre = fmean(estimates)
    reach = student_bound(estimates, 1 - look.alpha)
    effect = math.log1p(min_effect)
    if centre - reach > 0 and centre >= effect:
        return Finding.SLOWER
    if centre + reach < 0 and centre <= -effect:
        return Finding.FASTER
    reach = student_bound(estimates, SAME_CONFIDENCE_LAST if last else SAME_CONFIDENCE)
    if abs(centre) + reach <= math.log1p(tolerance):
        return Finding.SAME
    return Finding.INCONCLUSIVE if last else Finding.GO_ON


#: Two-sided significance at which one side's waiting counts as starvation by itself.
STARVED_ALPHA = 0.01


def starvation(
    estimates: Sequence[float], running: Sequence[float], min_effect: float, *, moved: bool
) -> float | None:
    """How much of the difference arose because one side was kept from running, if too much did.

    Load that both sides share moves the ratio of elapsed time and that of running time alike. If
    their difference has at least ``min_effect`` and is significant, or if it makes up half of a
    finding, somebody held one side back, and elapsed time says nothing about the code.

    Args:
        estimates: one log-ratio a generation, of elapsed time.
        running: the same of the time without waiting.
        min_effect: smallest share that counts.
        moved: whether the case was found slower or faster.

    Returns:
        The log-ratio that waiting explains, positive if the head was held back; None if both sides
        were served alike.
    """
    if len(estimates) < 2:
        return None
    shifts = [estimate - on for estimate, on in zip(estimates, running, strict=True)]
    shift, estimate, effect = fmean(shifts), fmean(estimates), math.log1p(min_effect)
    p_two_sided = 2 * p_value([math.copysign(1.0, shift) * value for value in shifts])
    if abs(shift) >= effect and p_two_sided < STARVED_ALPHA:
        return shift
    return shift if moved and shift / estimate >= 0.5 else None


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses fall with the chance of any false one at most ``level``.

    Holm (1979), "A simple sequentially rejective multiple test procedure": the smallest p-value is
    held against level / m, the next against level / (m - 1), and so on until one stands.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def confirmed(p_values: Sequence[float], looks: Sequence[Look] = LOOKS) -> list[bool]:
    """Which of the cases that were measured a second time stay slower.

    The second measurement is independent of the first, which only chose whom to measure again, so
    Holm's procedure over the chosen ones holds the error of the whole gate. The level is what the
    looks spend, so a case alone is decided by its own looks.

    Args:
        p_values: ``p_slower`` of each second measurement, 1 where it did not find ``slower``.
        looks: the looks of those measurements.
    """
    return holm(p_values, sum(look.alpha for look in looks))


def separate_runs(
    base: Sequence[float],
    head: Sequence[float],
    min_effect: float,
    tolerance: float,
    comparisons: int = 1,
) -> Decision:
    """Decide between launch medians of two runs that did not take turns.

    The interval is that of :func:`cspbench.measure.statistics.between_runs`. There is one look, at
    the last look's alpha, divided by ``comparisons`` (Bonferroni), because nothing is measured
    again.

    Args:
        base: medians of the base's launches, any unit.
        head: the same of the head.
        min_effect: smallest share that counts.
        tolerance: share within which a change is the same.
        comparisons: how many cases are compared in all.

    Raises:
        ValueError: fewer than two launches on a side.
    """
    from scipy.special import stdtr

    shift = between_runs(base, head)
    estimate, reach = shift.estimate, shift.reach
    slower = reach(1 - LOOKS[-1].alpha / comparisons)
    effect = math.log1p(min_effect)
    if estimate - slower > 0 and estimate >= effect:
        finding = Finding.SLOWER
    elif estimate + slower < 0 and estimate <= -effect:
        finding = Finding.FASTER
    elif abs(estimate) + reach(SAME_CONFIDENCE_LAST) <= math.log1p(tolerance):
        finding = Finding.SAME
    else:
        finding = Finding.INCONCLUSIVE
    half = reach(0.975)
    p_slower = float(stdtr(shift.freedom, -estimate / shift.error))
    return Decision(finding, estimate, estimate - half, estimate + half, p_slower, 0)


#: Fewest cases that can be said to move alike, and the share of all cases that must.
ALIKE_CASES = 3
ALIKE_SHARE = 0.8


def moving_alike(estimates: Sequence[float], min_effect: float) -> float | None:
    """The common shift, if nearly all cases moved the same way by nearly the same amount.

    Code rarely changes every model by the same factor; a machine, a library or a setting does.
    "Nearly the same": within half of the common shift, or within ``min_effect``, of it.

    Returns:
        The median log-ratio, or None if the cases do not move, or not alike.
    """
    if len(estimates) < ALIKE_CASES:
        return None
    common = median(estimates)
    if abs(common) < math.log1p(min_effect):
        return None
    width = max(abs(common) / 2, math.log1p(min_effect))
    alike = sum(abs(value - common) <= width for value in estimates)
    return common if alike >= ALIKE_SHARE * len(estimates) else None
