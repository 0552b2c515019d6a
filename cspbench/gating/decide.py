"""The statistics of the gate: pure functions from measured bursts to a decision.

A *block* is a pair of live processes that took bursts in turn (``cspbench.gating.duet``). The
unit of replication is the block, not the burst: bursts of one block share everything that a
process draws once (memory layout, page placement), so only blocks are independent. Kalibera &
Jones (2013), "Rigorous benchmarking in reasonable time", explain why repetition belongs at that
level. Bulej et al. (2020), "Duet benchmarking: improving measurement accuracy in the cloud",
explain why the two sides must run at the same time.

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

from cspbench.measure.statistics import between_runs, deviation, student_bounds


class Finding(str, Enum):
    """What the data of one case show."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    GO_ON = "go on"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


#: Findings that a second measurement is to confirm.
MOVED = (Finding.SLOWER, Finding.FASTER)


@dataclass(frozen=True)
class InterimAnalysis:
    """An analysis after so many blocks, and the one-sided error that it spends."""

    blocks: int
    alpha: float


#: Together these analyses spend 5 % on each side. By the union bound the sum holds for any
#: correlation between them. That the early ones spend little follows Lan & DeMets (1983),
#: "Discrete sequential boundaries for clinical trials". A finding is confirmed by a second
#: measurement, so that both err in at most 0.25 %, however much blocks scatter.
INTERIM_ANALYSES = (
    InterimAnalysis(4, 0.005),
    InterimAnalysis(8, 0.005),
    InterimAnalysis(13, 0.01),
    InterimAnalysis(21, 0.01),
    InterimAnalysis(34, 0.01),
    InterimAnalysis(50, 0.01),
)
#: Confidence of each one-sided bound that must lie within the tolerance for "same" ...
SAME_CONFIDENCE = 0.99
#: ... and at the last analysis, where the alternative is ``inconclusive``.
SAME_CONFIDENCE_LAST = 0.95


@dataclass(frozen=True)
class Decision:
    """A finding with the numbers that it rests on, all as log-ratios.

    ``low`` and ``high`` bound the two-sided 95 % Student interval over blocks. ``p_moved``, that
    of a move in the direction of the estimate, is valid at any stopping time
    (:func:`sequential_p`). All three are None with fewer than two
    blocks. ``waiting`` is what the head waited longer for a processor in a decision by running
    time, if it is worth a word (`waiting`).
    """

    finding: Finding
    estimate: float
    low: float | None
    high: float | None
    p_moved: float | None
    blocks: int
    waiting: float | None = None


@functools.cache
def student_quantile(freedom: int, confidence: float) -> float:
    """Quantile of Student's t distribution."""
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
    quantile = student_quantile(len(values) - 1, confidence)
    return quantile * deviation(values) / math.sqrt(len(values))


def p_value(values: Sequence[float]) -> float:
    """One-sided p-value of Student's test that the mean is at most 0."""
    if len(values) < 2:
        return 1.0
    centre, spread = fmean(values), deviation(values)
    if spread == 0:
        return 0.0 if centre > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(len(values) - 1, -centre / (spread / math.sqrt(len(values)))))


def sequential_p(
    estimates: Sequence[float], interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES
) -> float | None:
    """P-value of "slower" that stays valid although the gate stops as soon as an analysis decides.

    It is the smallest total error at which these analyses, their alphas scaled together, would have
    rejected: ``sum(alpha) * min(p_k / alpha_k)`` over the analyses made so far. If nothing changed,
    it is at most x with probability at most x, by the union bound.

    Returns:
        None before the first analysis.
    """
    spent = sum(analysis.alpha for analysis in interim)
    ratios = [
        p_value(estimates[: analysis.blocks]) / analysis.alpha
        for analysis in interim
        if analysis.blocks <= len(estimates)
    ]
    return min(1.0, spent * min(ratios)) if ratios else None


def find(
    estimates: Sequence[float],
    min_effect: float,
    tolerance: float,
    interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES,
    earlier: float | None = None,
) -> Finding:
    """What the blocks measured so far show of a case.

    An interim analysis takes the first of these that holds:

    1. ``slower``: the lower bound at the analysis's alpha is above 0, and the estimate is at least
       ``min_effect``; in a second measurement its mean with the first. ``faster`` likewise.
    2. ``same``: both one-sided 99 % bounds (95 % at the last analysis) lie within the tolerance.
       This is the two one-sided tests procedure of Schuirmann (1987).
    3. ``go on``, or ``inconclusive`` at the last analysis.

    Between analyses the decision is ``go on``.

    Args:
        estimates: one log-ratio a block, in order.
        min_effect: smallest share that counts as slower or faster.
        tolerance: a change that surely lies within this share is the same.
        interim: the analyses, in ascending order of their blocks.
        earlier: the estimate of a first measurement that this one is to confirm.
    """
    analysis = next((analysis for analysis in interim if analysis.blocks == len(estimates)), None)
    if analysis is None:
        return Finding.GO_ON
    last = analysis is interim[-1]
    finding = _finding(
        fmean(estimates),
        student_bound(estimates, 1 - analysis.alpha),
        student_bound(estimates, SAME_CONFIDENCE_LAST if last else SAME_CONFIDENCE),
        min_effect,
        tolerance,
        earlier,
    )
    return Finding.GO_ON if finding is Finding.INCONCLUSIVE and not last else finding


def decide(
    estimates: Sequence[float],
    min_effect: float,
    tolerance: float,
    interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES,
    earlier: float | None = None,
) -> Decision:
    """Decide one case by the blocks measured so far: what they show (`find`), and its numbers."""
    finding = find(estimates, min_effect, tolerance, interim, earlier)
    low, high = student_bounds(estimates)
    estimate = fmean(estimates) if estimates else 0.0
    direction = math.copysign(1.0, estimate)
    p_moved = sequential_p([direction * value for value in estimates], interim)
    return Decision(finding, estimate, low, high, p_moved, len(estimates))


def _finding(
    estimate: float, moved_reach: float, same_reach: float, min_effect: float, tolerance: float,
    earlier: float | None = None,
) -> Finding:  # fmt: skip
    """What an estimate shows whose bounds lie ``moved_reach`` and ``same_reach`` away from it.

    Both measurements are of one size: were each to reach ``min_effect`` by itself, a slowdown a
    little above it would be missed by either's chance.
    """
    effect = math.log1p(min_effect)
    size = estimate if earlier is None else (estimate + earlier) / 2
    if estimate - moved_reach > 0 and size >= effect:
        return Finding.SLOWER
    if estimate + moved_reach < 0 and size <= -effect:
        return Finding.FASTER
    if abs(estimate) + same_reach <= math.log1p(tolerance):
        return Finding.SAME
    return Finding.INCONCLUSIVE


#: Two-sided significance at which the waiting of one side counts by itself.
STARVED_ALPHA = 0.01


def waiting(elapsed: Sequence[float], running: Sequence[float], min_effect: float) -> float | None:
    """How much longer one side waited for a processor than the other, if it is worth a word.

    Load that both sides share moves the ratio of elapsed time and that of running time alike. One
    side was held back if the difference of the two ratios is at least ``min_effect`` and
    significant.

    Args:
        elapsed: one log-ratio a block, of elapsed time.
        running: the same of the time without waiting.
        min_effect: smallest share that counts.

    Returns:
        The log-ratio that waiting explains, positive if the head was held back. None if the system
        served both sides alike.
    """
    if len(elapsed) < 2:
        return None
    shifts = _shifts(elapsed, running)
    shift = fmean(shifts)
    p_two_sided = 2 * p_value([math.copysign(1.0, shift) * value for value in shifts])
    worth = abs(shift) >= math.log1p(min_effect) and p_two_sided < STARVED_ALPHA
    return shift if worth else None


def starvation(
    elapsed: Sequence[float], running: Sequence[float], min_effect: float, *, moved: bool
) -> float | None:
    """What waiting explains of a decision by elapsed time, if that does not measure the code then.

    Of a case that was found slower or faster (``moved``) that is at least half of the finding:
    a head that does 55 times the work is slower, however long it also waits. Of any other case it
    is what `waiting` finds.
    """
    if not moved or len(elapsed) < 2:
        return waiting(elapsed, running, min_effect)
    shift = fmean(_shifts(elapsed, running))
    return shift if shift / fmean(elapsed) >= 0.5 else None


def _shifts(elapsed: Sequence[float], running: Sequence[float]) -> list[float]:
    return [whole - on for whole, on in zip(elapsed, running, strict=True)]


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses are rejected, with a family-wise error of at most ``level``.

    Holm (1979), "A simple sequentially rejective multiple test procedure": the smallest p-value is
    compared with level / m, the next with level / (m - 1), and so on until one is larger.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def confirmed(
    p_values: Sequence[float], interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES
) -> list[bool]:
    """Which of the cases that were measured a second time moved as in the first.

    The second measurement is independent of the first, which only chose the cases. Holm's procedure
    over the chosen cases therefore bounds the error of the whole gate. The level is the sum of the
    alphas, so that a single case is decided by its own analyses.

    Args:
        p_values: ``p_moved`` of each second measurement, 1 where it did not find the same.
        interim: the analyses of those measurements.
    """
    return holm(p_values, sum(analysis.alpha for analysis in interim))


def shared_among(
    suspects: int, interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES
) -> tuple[InterimAnalysis, ...]:
    """The analyses of second measurements of so many cases: each may spend its part of the error.

    A case that one of them finds has a `sequential_p` that Holm's procedure accepts at any rank.
    """
    return tuple(InterimAnalysis(one.blocks, one.alpha / max(suspects, 1)) for one in interim)


#: One-sided error of the one analysis between two runs that did not take turns.
SEPARATE_ALPHA = 0.02


def separate_runs(
    base: Sequence[float],
    head: Sequence[float],
    min_effect: float,
    tolerance: float,
    comparisons: int = 1,
) -> Decision:
    """Decide between launch medians of two runs that did not take turns.

    The interval is that of :func:`cspbench.measure.statistics.between_runs`. There is one analysis,
    whose one-sided error is divided by ``comparisons`` (Bonferroni), because nothing is measured
    again.

    Args:
        base: medians of the base's launches, any unit.
        head: the same of the head.
        min_effect: smallest share that counts.
        tolerance: share within which a change is the same.
        comparisons: how many cases are compared in all.

    Raises:
        ValueError: a side has fewer than two launches.
    """
    from scipy.special import stdtr

    shift = between_runs(base, head)
    estimate, reach = shift.estimate, shift.reach
    finding = _finding(
        estimate,
        reach(1 - SEPARATE_ALPHA / comparisons),
        reach(SAME_CONFIDENCE_LAST),
        min_effect,
        tolerance,
    )
    half = reach(0.975)
    p_moved = float(stdtr(shift.freedom, -abs(estimate) / shift.error))
    return Decision(finding, estimate, estimate - half, estimate + half, p_moved, 0)


#: Fewest cases that can move alike, and the share of all cases that must.
ALIKE_CASES = 3
ALIKE_SHARE = 0.8


def moving_alike(estimates: Sequence[float], min_effect: float) -> float | None:
    """The common shift, if nearly all cases moved the same way by nearly the same amount.

    Code rarely changes every model by the same factor; a machine, a library or a setting does.
    "Nearly the same": within half of the common shift, or within ``min_effect``, of it.

    Returns:
        The median log-ratio, or None if the cases do not move, or do not move alike.
    """
    if len(estimates) < ALIKE_CASES:
        return None
    common = median(estimates)
    if abs(common) < math.log1p(min_effect):
        return None
    width = max(abs(common) / 2, math.log1p(min_effect))
    alike = sum(abs(value - common) <= width for value in estimates)
    return common if alike >= ALIKE_SHARE * len(estimates) else None
