"""Pure statistics of samples and launches: numbers in, numbers out, no I/O.

Two intervals must not be confused. Inside a launch samples are autocorrelated: the batch-means
interval only says when to stop sampling. Between launches lies the variance that users meet when
they measure again: the printed interval is Student's on the logs of the launch medians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Batches of the batch-means method. Schmeiser (1982), "Batch size effects in the analysis of
#: simulation output": between 10 and 30 batches, more gain nothing.
BATCHES = 20
#: Two-sided 95 % Student quantile with BATCHES - 1 = 19 degrees of freedom.
_T_19 = 2.093
#: From how many samples on a 99th percentile is printed.
P99_MIN_SAMPLES = 300


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % interval; no bounds with fewer than 2 values."""

    estimate: float
    low: float | None
    high: float | None

    @property
    def relative_half_width(self) -> float | None:
        """Half the width of the interval as a share of the estimate."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2 / self.estimate


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1).

    Not statistics.stdev, whose exact fractions take longer than reading the launches.
    """
    centre = fmean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def student_bounds(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Bounds of the 95 % Student interval of a mean; None with fewer than two values."""
    count = len(values)
    if count < 2:
        return None, None
    from scipy.special import stdtrit

    centre = fmean(values)
    reach = float(stdtrit(count - 1, 0.975)) * deviation(values) / math.sqrt(count)
    return centre - reach, centre + reach


def between_launches(medians: Sequence[float]) -> Interval:
    """Median of the launch medians with a Student interval on their logs.

    The interval is exp(mean(log m) +- t * s / sqrt(n)) with n - 1 degrees of freedom, widened, if
    need be, to hold the printed median. Logs, because latencies are positive and their errors
    multiply.

    Raises:
        ValueError: no medians, or one that is not positive.
    """
    if not medians:
        raise ValueError("no launches")
    if min(medians) <= 0:
        raise ValueError("latencies must be positive")
    estimate = median(medians)
    if len(medians) < 2:
        return Interval(estimate, None, None)
    low, high = student_bounds([math.log(value) for value in medians])
    assert low is not None
    assert high is not None
    return Interval(estimate, min(math.exp(low), estimate), max(math.exp(high), estimate))


#: Standard deviation, as a log-ratio, of the difference between two separate runs of the same code
#: on the same machine beyond what the spread between launches of either run shows. On a shared
#: virtual machine medians of 10 processes taken half a session apart differed by 3.2 % (standard
#: deviation), of which the spread between processes explains about 2.3 %; see docs/gate.md.
BETWEEN_RUNS_SD = 0.025


@dataclass(frozen=True)
class Shift:
    """log(head / base) of two runs that did not take turns, with its standard error."""

    estimate: float
    error: float
    freedom: float

    def reach(self, confidence: float) -> float:
        """Distance from the estimate to its one-sided Student bound."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, confidence)) * self.error


def between_runs(base: Sequence[float], head: Sequence[float]) -> Shift:
    """The change from one run to another, from their launch medians (any unit).

    Welch (1947), "The generalization of Student's problem ...", on the logs of the launch medians,
    with ``BETWEEN_RUNS_SD`` added to the error: whatever changed on the machine between the runs is
    in the difference and no number of launches averages it out.

    Raises:
        ValueError: fewer than two launches on a side.
    """
    if min(len(base), len(head)) < 2:
        raise ValueError("a run needs two launches of a case")
    sides = [[math.log(value) for value in side] for side in (base, head)]
    within, freedom = welch(*sides)
    error = math.sqrt(within**2 + BETWEEN_RUNS_SD**2)
    return Shift(fmean(sides[1]) - fmean(sides[0]), error, freedom)


def welch(one: Sequence[float], two: Sequence[float]) -> tuple[float, float]:
    """Standard error of the difference of two means, and its degrees of freedom (Welch 1947).

    Args:
        one: at least two values.
        two: the same of the other side.
    """
    parts = [(deviation(side) ** 2 / len(side), len(side) - 1) for side in (one, two)]
    within = sum(part for part, _ in parts)
    if not within:
        return 0.0, float(sum(freedom for _, freedom in parts))
    freedom = within**2 / sum(part**2 / freedom for part, freedom in parts)
    return math.sqrt(within), freedom


def ratio_between_runs(base: Sequence[float], head: Sequence[float]) -> Interval:
    """Head / base of two runs by the medians of their launch medians, with `between_runs`' bounds.

    There are none with fewer than two launches on a side.
    """
    ratio = median(head) / median(base)
    if min(len(base), len(head)) < 2:
        return Interval(ratio, None, None)
    half = math.exp(between_runs(base, head).reach(0.975))
    return Interval(ratio, ratio / half, ratio * half)


def quotient(over: Interval, under: Interval) -> Interval:
    """``over`` / ``under`` of two latencies that were measured by launches of their own.

    The half widths of both intervals on the log scale are joined as the root of the sum of their
    squares: the launches of two cases are independent. Without both intervals there are no bounds.
    """
    ratio = over.estimate / under.estimate
    if not (over.low and over.high and under.low and under.high):
        return Interval(ratio, None, None)
    half = math.hypot(math.log(over.high / over.low) / 2, math.log(under.high / under.low) / 2)
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def batch_means_half_width(samples: Sequence[float]) -> float | None:
    """Relative half width of the 95 % batch-means interval of the mean inside one launch.

    The samples are cut into BATCHES consecutive batches of equal size (the first few that do not
    fit are left out); batch means are nearly independent where samples are not.

    Returns:
        half width / mean, or None with fewer than two samples a batch.
    """
    size = len(samples) // BATCHES
    if size < 2:
        return None
    tail = samples[len(samples) - size * BATCHES :]
    means = [fmean(tail[i * size : (i + 1) * size]) for i in range(BATCHES)]
    return _T_19 * stdev(means) / math.sqrt(BATCHES) / fmean(means)


@dataclass(frozen=True)
class Trend:
    """A monotonic trend in a series: its whole rise as a share of the median, and its z."""

    relative: float
    z: float


def trend(series: Sequence[float]) -> Trend:
    """Mann-Kendall test and Theil-Sen slope: both by ranks and medians, so outliers weigh little.

    S counts the pairs that rise less those that fall; without a trend its variance is
    n (n - 1) (2 n + 5) / 18 and z = (S -+ 1) / sqrt(variance) is nearly normal from n = 10 on
    (Mann 1945, doi 10.2307/1907187; Kendall 1975, Rank Correlation Methods). Ties only make z
    smaller here, as the variance is not corrected for them. The slope is the median of the slopes
    of all pairs (Sen 1968, doi 10.2307/2285891), the rise is slope x (n - 1).

    Raises:
        ValueError: fewer than 3 values, or a median that is not positive.
    """
    count, centre = len(series), median(series) if series else 0.0
    if count < 3 or centre <= 0:
        raise ValueError("a trend needs at least 3 values with a positive median")
    pairs = [(i, j) for j in range(count) for i in range(j)]
    rises = sum((series[j] > series[i]) - (series[j] < series[i]) for i, j in pairs)
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    slope = median((series[j] - series[i]) / (j - i) for i, j in pairs)
    z = (rises - math.copysign(1, rises)) / spread if rises else 0.0
    return Trend(slope * (count - 1) / centre, z)


def percentile(samples: Sequence[float], share: float) -> float:
    """Percentile by linear interpolation between order statistics (type 7, numpy's default).

    Raises:
        ValueError: no samples, or a share outside [0, 1].
    """
    return percentile_of_ordered(sorted(samples), share)


def percentile_of_ordered(ordered: Sequence[float] | NDArray[Any], share: float) -> float:
    """Percentile of samples in ascending order."""
    if not len(ordered) or not 0 <= share <= 1:
        raise ValueError("a percentile needs samples and a share within [0, 1]")
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (position - below))
