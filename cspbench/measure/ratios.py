"""Ratios of cases that took turns: pure functions from bursts to estimates with intervals.

Neighbours on a machine (a busy sibling of the core, other guests of the host, interrupts) make an
inference slower, often by a third. There are three ways to be rid of them, and which is sharpest
depends on how long they stay. Where they come and go within milliseconds, not even bursts of one
round share them: Chen & Revels (2016), "Robust benchmarking in noisy environments" (arXiv
1608.04295), compare the fastest samples, here the *undisturbed* time of both cases, a low quantile
of their inferences. Where the machine changes its speed every few seconds, a block has a few quiet
moments that one case meets and the other does not, and the *rounds* are sharper: the median over
them of the ratio within a round (Bulej et al. 2020, "Duet benchmarking", arXiv 2001.05811; Abedi &
Brecht 2017, doi 10.1145/3030207.3030229). Where it changes within a round, *successive* bursts are
sharper (`cspbench.measure.successive`). A run takes the way on which the even and the odd rounds of
its own blocks agree best (`sharpest`). How blocks differ from each other plays no part in that
choice, so intervals over blocks stay honest.

What a process draws once (memory layout, page placement) is common to all bursts of a block, so the
block is the unit of replication (Kalibera & Jones 2013, "Rigorous benchmarking in reasonable
time"): intervals are Student's over blocks. They stand round the blocks' Hodges-Lehmann estimate
(`centre`), because now and then one process of the reference is 10 to 25 % off, which moves all
ratios of its block, and their mean by a quarter of that.

Effects are logarithms of case / reference: 0 is equal, log(1.05) is 5 % slower.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement
from statistics import fmean, median
from typing import TypeAlias

from cspbench.measure.statistics import Interval, deviation

#: Confidence of all intervals.
CONFIDENCE = 0.95
#: Quantile of the inferences of a block that counts as undisturbed.
UNDISTURBED = 0.02
#: Fewest rounds of a block by which two halves can be compared.
FEWEST_ROUNDS = 8
#: Fewest rounds of a block, as a share, by which it is judged if its device was throttled.
STEADY_SHARE = 0.5
#: Times of the inferences of each burst, round by round.
Bursts: TypeAlias = Sequence[Sequence[float]]
#: What an estimate says of the even and of the odd rounds.
Halves: TypeAlias = tuple[float, float]


def undisturbed(times_ns: Sequence[float]) -> float:
    """The quantile UNDISTURBED of a case's inferences in a block, by linear interpolation.

    Raises:
        ValueError: there are none, or a time is not positive.
    """
    if not times_ns or min(times_ns) <= 0:
        raise ValueError("a block needs inferences, and their times must be positive")
    ordered = sorted(times_ns)
    below, share = divmod(UNDISTURBED * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + share * (high - low)


def block_estimate(base_ns: Sequence[float], head_ns: Sequence[float]) -> float:
    """log(head / base) of the undisturbed times of a block.

    Args:
        base_ns: times of inferences of the base, or their means over bursts.
        head_ns: the same of the head.

    Raises:
        ValueError: a side has none, or a time is not positive.
    """
    return math.log(undisturbed(head_ns) / undisturbed(base_ns))


def typical_estimate(base_ns: Sequence[float], head_ns: Sequence[float]) -> float:
    """Median over the rounds of a block of log(head / base).

    Args:
        base_ns: time of an inference in each burst of the base.
        head_ns: the same of the head; item i ran in the same round as item i of the base.

    Raises:
        ValueError: there are no rounds, the numbers differ, or a time is not positive.
    """
    if not base_ns or len(base_ns) != len(head_ns):
        raise ValueError(f"{len(base_ns)} bursts of the base and {len(head_ns)} of the head")
    if min(*base_ns, *head_ns) <= 0:
        raise ValueError("times must be positive")
    return median(math.log(head / base) for base, head in zip(base_ns, head_ns, strict=True))


def steady_rounds(
    rounds: int, base_throttled_ns: Sequence[int] | None, head_throttled_ns: Sequence[int] | None
) -> list[int]:
    """The rounds in which the device was throttled in neither burst.

    A burst at a lower clock says how hot the device was, not how fast the case is. If fewer than
    STEADY_SHARE of the rounds would be left, throttling is what this device does: all rounds count,
    and the launch is flagged.

    Args:
        rounds: how many rounds both took part in.
        base_throttled_ns: for how long the device was throttled, burst by burst; None where it
            does not tell.
        head_throttled_ns: the same of the head.
    """
    held = [ns for ns in (base_throttled_ns, head_throttled_ns) if ns is not None]
    steady = [number for number in range(rounds) if not any(ns[number] for ns in held)]
    return steady if len(steady) >= STEADY_SHARE * rounds else list(range(rounds))


def _undisturbed(base: Bursts, head: Bursts) -> float:
    return block_estimate(list(chain.from_iterable(base)), list(chain.from_iterable(head)))


def _rounds(base: Bursts, head: Bursts) -> float:
    # A block that was cut short leaves some arms with a round more.
    rounds = min(len(base), len(head))
    return typical_estimate(list(map(fmean, base[:rounds])), list(map(fmean, head[:rounds])))


def _both_orders(base: Bursts, head: Bursts) -> float:
    rounds = min(len(base), len(head))
    kinds = [0, 1][:rounds]
    return fmean(_rounds(base[first:rounds:2], head[first:rounds:2]) for first in kinds)


#: Names of the ways to estimate log(head / base) of a block.
UNDISTURBED_TIMES, ROUNDS, SUCCESSIVE = "undisturbed", "rounds", "successive"
#: The ways that two cases are enough for; successive bursts need all of a block.
ESTIMATES: dict[str, Callable[[Bursts, Bursts], float]] = {
    UNDISTURBED_TIMES: _undisturbed,
    ROUNDS: _rounds,
}


def estimates(of_two: bool) -> Mapping[str, Callable[[Bursts, Bursts], float]]:
    """ESTIMATES of a block; one ``of_two`` processes has rounds of two kinds, AB and BA.

    The second burst of a round begins with the caches of the first, so the ratios of the two kinds
    lie apart, and a median over both is anywhere between: it is their mean that counts.
    """
    return {**ESTIMATES, ROUNDS: _both_orders} if of_two else ESTIMATES


def half_of(number: int, *, of_two: bool) -> int:
    """Which half a round belongs to: 0 if it is even and 1 if odd; of two, pairs of rounds are."""
    return (number // 2 if of_two else number) % 2


def halves(base: Bursts, head: Bursts, *, of_two: bool = False) -> dict[str, Halves]:
    """What each of ESTIMATES says of the even and of the odd rounds of a block.

    Args:
        base: bursts of one case, round by round.
        head: those of another in the same block.
        of_two: no other process took turns with them (`estimates`).

    Returns:
        By name; nothing of a block of fewer than FEWEST_ROUNDS rounds.
    """
    rounds = min(len(base), len(head))
    if rounds < FEWEST_ROUNDS:
        return {}
    parts = [
        [[case[number] for number in range(rounds) if half_of(number, of_two=of_two) == half]
         for case in (base, head)]
        for half in (0, 1)
    ]  # fmt: skip
    return {
        name: (estimate(*parts[0]), estimate(*parts[1]))
        for name, estimate in estimates(of_two).items()
    }


def sharpest(told: Iterable[Mapping[str, Halves]]) -> str:
    """The name of the estimate on which even and odd rounds of these blocks agree best.

    Args:
        told: of two cases that took turns in a block, what each way says of even and of odd rounds.
            A way that is not known of all of them does not count. Without any the estimate is that
            of undisturbed times.
    """
    pairs = [pair for pair in told if pair]
    known = [name for name in (pairs[0] if pairs else ()) if all(name in pair for pair in pairs)]
    apart = {
        name: math.fsum((even - odd) ** 2 for even, odd in (pair[name] for pair in pairs))
        for name in known
    }
    return min(apart, key=apart.__getitem__, default=UNDISTURBED_TIMES)


@dataclass(frozen=True)
class Ratio:
    """case / reference with intervals over blocks; bounds are None with fewer than two blocks.

    ``low`` and ``high`` hold this ratio with 95 % confidence; ``all_low`` and ``all_high`` hold all
    ratios of the same comparison together. ``per_block`` are the logarithms.
    """

    estimate: float
    low: float | None
    high: float | None
    all_low: float | None
    all_high: float | None
    per_block: tuple[float, ...]

    @property
    def blocks(self) -> int:
        """How many blocks it rests on."""
        return len(self.per_block)

    @property
    def interval(self) -> Interval:
        """The estimate with its own 95 % bounds."""
        return Interval(self.estimate, self.low, self.high)

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval as a share of the estimate."""
        return self.interval.relative_half_width


def log_waited(elapsed_ns: Sequence[float], running_ns: Sequence[float]) -> float:
    """log(elapsed / running time) of all bursts of a block together.

    Waits come in lumps (a quota holds a process back for 50 of each 100 ms), which a median over
    bursts of a few milliseconds does not show.
    """
    return math.log(sum(elapsed_ns) / sum(running_ns))


def ratio_of(per_block: Sequence[float], comparisons: int = 1) -> Ratio:
    """The ratio that blocks show, by Student's interval on the logarithms.

    Args:
        per_block: one estimate a block.
        comparisons: with how many cases the same reference is compared in all; the joint bounds
            are Dunnett's (1955).

    Raises:
        ValueError: no blocks.
    """
    if not per_block:
        raise ValueError("no blocks")
    middle = centre(per_block)
    low, high = _around(middle, per_block, CONFIDENCE, 1)
    all_low, all_high = _around(middle, per_block, CONFIDENCE, comparisons)
    return Ratio(math.exp(middle), low, high, all_low, all_high, tuple(per_block))


def centre(values: Sequence[float]) -> float:
    """The median of the means of all pairs of values, each with itself too.

    Hodges & Lehmann (1963), "Estimates of location based on rank tests" (doi
    10.1214/aoms/1177704172): nearly as sharp as the mean where values are normal, and hardly moved
    by one of four that lies far off. Of two values it is the mean.
    """
    return median((one + other) / 2 for one, other in combinations_with_replacement(values, 2))


def bounds(per_block: Sequence[float], confidence: float) -> tuple[float | None, float | None]:
    """Bounds of one ratio with a confidence; None without an interval.

    Args:
        per_block: one logarithm a block.
        confidence: of the interval.
    """
    return _around(centre(per_block), per_block, confidence, 1)


def _around(
    middle: float, per_block: Sequence[float], confidence: float, comparisons: int
) -> tuple[float | None, float | None]:
    """Bounds round the blocks' centre, which hold ``comparisons`` ratios together."""
    count = len(per_block)
    if count < 2:
        return None, None
    error = deviation(per_block) / math.sqrt(count)
    reach = dunnett_quantile(comparisons, count - 1, confidence) * error
    return math.exp(middle - reach), math.exp(middle + reach)


@functools.cache
def dunnett_quantile(comparisons: int, freedom: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of the largest of several Student ratios with one common reference.

    Dunnett (1955), "A multiple comparison procedure for comparing several treatments with a
    control" (doi 10.2307/2281208), for equally many values of each: any two ratios correlate by
    1/2. With one comparison it is Student's quantile. Where the reference scatters less than the
    others the true correlation is smaller; the quantile for 0 (Sidak's) is larger by at most 3 %
    here.

    Args:
        comparisons: cases compared with the reference.
        freedom: degrees of freedom of each standard error.
        confidence: of all intervals together.
    """
    from scipy.special import stdtrit

    if comparisons == 1:
        return float(stdtrit(freedom, (1 + confidence) / 2))
    from scipy.optimize import brentq

    def missing(quantile: float) -> float:
        return _all_within(quantile, comparisons, freedom) - confidence

    # Between one comparison and Bonferroni's bound for all of them.
    low = float(stdtrit(freedom, (1 + confidence) / 2))
    high = float(stdtrit(freedom, 1 - (1 - confidence) / 2 / comparisons))
    return float(brentq(missing, low, high, xtol=1e-4))


def _all_within(quantile: float, comparisons: int, freedom: int) -> float:
    """Probability that all |T_i| stay below the quantile.

    T_i = (Z_i + Z_0) / (sqrt(2) S): given the reference's Z_0 and the pooled S they are
    independent. Z_0 is integrated by Gauss-Hermite, S by quantiles of the chi distribution.
    """
    import numpy as np
    from scipy.special import chdtri, ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    shares = (np.arange(256) + 0.5) / 256
    spreads = np.sqrt(chdtri(freedom, shares) / freedom)  # equal shares of the distribution of S
    reach = math.sqrt(2) * quantile * spreads[:, None]
    inside = ndtr(reach - nodes) - ndtr(-reach - nodes)
    return float(((inside**comparisons) @ weights).mean())
