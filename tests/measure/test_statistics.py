"""Statistics with numbers worked out by hand, and their promises checked by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.measure.statistics import (
    BATCHES,
    Interval,
    batch_means_half_width,
    between_launches,
    percentile,
    trend,
)

# Between launches: the interval that is printed -------------------------------------------------


def test_between_launches_by_hand():
    # Launch medians 8, 10, 12.5 ms. Their logs are ln 10 - ln 1.25, ln 10, ln 10 + ln 1.25:
    # mean ln 10, standard deviation ln 1.25 = 0.22314. Student's 97.5 % quantile with 2 degrees of
    # freedom is 4.30265, so the half width is 4.30265 * 0.22314 / sqrt(3) = 0.55431 and the bounds
    # are 10 * exp(-+0.55431) = 5.7447 and 17.4076.
    interval = between_launches([12.5, 8.0, 10.0])
    assert interval.estimate == 10.0
    assert interval.low == pytest.approx(5.7447, abs=1e-4)
    assert interval.high == pytest.approx(17.4076, abs=1e-4)
    # (17.4076 - 5.7447) / 2 / 10
    assert interval.relative_half_width == pytest.approx(0.5831, abs=1e-4)


def test_equal_launches_have_an_interval_of_no_width():
    interval = between_launches([4.0, 4.0, 4.0])
    assert interval.low == pytest.approx(4.0)
    assert interval.high == pytest.approx(4.0)


def test_one_launch_has_no_interval():
    assert between_launches([7.0]) == Interval(7.0, None, None)
    assert between_launches([7.0]).relative_half_width is None


@pytest.mark.parametrize("medians", [[], [1.0, 0.0], [1.0, -2.0]])
def test_nothing_and_impossible_latencies_are_refused(medians):
    with pytest.raises(ValueError, match=r"no launches|must be positive"):
        between_launches(medians)


@given(st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=12))
def test_the_interval_holds_the_estimate(medians):
    interval = between_launches(medians)
    assert interval.low <= interval.estimate <= interval.high
    assert interval.estimate == pytest.approx(np.median(medians))


@given(st.lists(st.floats(1.0, 1e3), min_size=2, max_size=8), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(medians, factor):
    """Measured in other units the interval is the same interval."""
    one, other = between_launches(medians), between_launches([m * factor for m in medians])
    assert other.low == pytest.approx(one.low * factor, rel=1e-6)
    assert other.high == pytest.approx(one.high * factor, rel=1e-6)


@pytest.mark.parametrize("launches", [3, 5, 10])
def test_the_interval_covers_the_truth_in_95_of_100_experiments(launches):
    """Launch medians of a lognormal machine with 10 % spread between processes, truth 50 ms.

    2000 experiments: the binomial standard deviation of the coverage is
    sqrt(0.95 * 0.05 / 2000) = 0.5 %, so 93.5 to 96.5 % is within three of them. (The widening to
    hold the printed median adds a little for few launches.)
    """
    generator = np.random.default_rng(launches)
    covered = 0
    for _ in range(2000):
        medians = 50.0 * np.exp(generator.normal(0.0, 0.10, launches))
        interval = between_launches(list(medians))
        covered += interval.low <= 50.0 <= interval.high
    assert 0.935 <= covered / 2000 <= 0.965


# Inside a launch: when to stop sampling ---------------------------------------------------------


def test_batch_means_by_hand():
    # 40 samples make 20 batches of 2: ten of mean 90 and ten of mean 110. Mean 100; the variance
    # of the batch means is 20 * 10**2 / 19, so their standard deviation is 10.2598. Half width
    # 2.093 * 10.2598 / sqrt(20) = 4.8017, relative to the mean 0.048017.
    samples = [80, 100] * 10 + [120, 100] * 10
    assert batch_means_half_width(samples) == pytest.approx(0.048017, abs=1e-6)


def test_the_oldest_samples_that_fill_no_batch_are_left_out():
    samples = [80, 100] * 10 + [120, 100] * 10
    assert batch_means_half_width([10**9, *samples]) == batch_means_half_width(samples)


def test_less_than_two_samples_a_batch_is_no_interval():
    assert batch_means_half_width([1.0] * (2 * BATCHES - 1)) is None
    assert batch_means_half_width([1.0] * (2 * BATCHES)) == 0.0


def test_batch_means_see_autocorrelation_that_the_plain_interval_misses():
    """A slowly drifting clock: x[i] = 0.95 x[i-1] + noise, as samples of one process are.

    True variance of the mean of an AR(1) series is (1 + 0.95) / (1 - 0.95) = 39 times that of
    independent samples of the same spread, so the half width is sqrt(39) = 6.2 times the plain one.
    Over 200 series of 4000 samples the true mean (100) must lie inside about 95 % of the intervals.
    """
    generator = np.random.default_rng(7)
    wide, covered = [], 0
    for _ in range(200):
        noise = generator.normal(0.0, 1.0, 4200)
        series = np.empty_like(noise)
        series[0] = noise[0]
        for i in range(1, len(noise)):
            series[i] = 0.95 * series[i - 1] + noise[i]
        samples = 100.0 + series[200:]  # without the start-up of the series
        half = batch_means_half_width(list(samples))
        plain = 1.96 * samples.std() / math.sqrt(len(samples)) / samples.mean()
        wide.append(half / plain)
        covered += abs(samples.mean() - 100.0) <= half * samples.mean()
    assert 5.0 < np.median(wide) < 7.5
    assert 0.90 <= covered / 200 <= 0.99


# Trend ------------------------------------------------------------------------------------------


def test_trend_by_hand():
    # 10, 11, 13: three pairs, all rise, S = 3; variance 3 * 2 * 11 / 18 = 3.66667, so
    # z = (3 - 1) / 1.91485 = 1.04447. Slopes 1, 2 and 3 / 2: median 1.5; the rise over two steps
    # is 3, of the median 11.
    found = trend([10, 11, 13])
    assert found.relative == pytest.approx(3 / 11)
    assert found.z == pytest.approx(1.04447, abs=1e-5)


def test_one_outlier_makes_no_trend():
    # Of 45 pairs 9 rise to the outlier at the end and the others tie: S = 9, variance
    # 10 * 9 * 25 / 18 = 125, z = 8 / 11.18 = 0.716; the median of the slopes is 0.
    found = trend([10] * 9 + [1000])
    assert found.relative == 0
    assert found.z == pytest.approx(0.71554, abs=1e-5)


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=30))
def test_a_series_backwards_has_the_opposite_trend(series):
    there, back = trend(series), trend(series[::-1])
    assert (there.relative, there.z) == pytest.approx((-back.relative, -back.z))


def test_two_values_have_no_trend():
    with pytest.raises(ValueError, match="at least 3"):
        trend([1, 2])


# Percentiles ------------------------------------------------------------------------------------


def test_percentile_by_hand():
    # Ordered 10 20 30 40; the 90th percentile lies at 0.9 * 3 = 2.7: 30 + 0.7 * (40 - 30) = 37.
    assert percentile([40, 10, 30, 20], 0.90) == pytest.approx(37.0)
    assert percentile([40, 10, 30, 20], 0.0) == 10
    assert percentile([40, 10, 30, 20], 1.0) == 40
    assert percentile([5], 0.9) == 5


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=50), st.floats(0, 1))
def test_percentile_is_numpys_default(samples, share):
    assert percentile(samples, share) == pytest.approx(np.percentile(samples, 100 * share))


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1], -0.1), ([1], 1.1)])
def test_percentile_of_nothing_or_beyond_all_is_refused(samples, share):
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, share)
