import math
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cspbench.gating.decide import (
    INTERIM_ANALYSES,
    Finding,
    InterimAnalysis,
    confirmed,
    decide,
    holm,
    moving_alike,
    p_value,
    separate_runs,
    sequential_p,
    shared_among,
    starvation,
    student_bound,
    waiting,
)
from cspbench.suite.suite import Gate
from tests.gating.noise import estimates as simulated

#: Blocks of the last interim analysis.
MOST = INTERIM_ANALYSES[-1].blocks

LOGS = st.floats(-0.5, 0.5, allow_nan=False)


def run_gate(blocks, min_effect=Gate.min_effect, tolerance=Gate.tolerance, earlier=None):
    """Analyse growing prefixes as a gate does; return (finding, blocks used)."""
    for analysis in INTERIM_ANALYSES:
        decision = decide(blocks[: analysis.blocks], min_effect, tolerance, earlier=earlier)
        if decision.finding is not Finding.GO_ON:
            return decision.finding, analysis.blocks
    raise AssertionError("the last analysis always decides")


def share(trials, finding, **settings):
    findings = [run_gate(list(row), **settings)[0] for row in trials]
    return sum(f is finding for f in findings) / len(findings)


# Bounds and p-values


def test_student_bound_is_the_textbook_one():
    # mean 0.05, s = 0.01, n = 4: t(0.999; 3) = 10.2145, so 10.2145 * 0.01 / 2 = 0.0510725.
    values = [0.05 + d for d in (-0.0122474, 0.0, 0.0, 0.0122474)]
    assert stdev(values) == pytest.approx(0.01, rel=1e-5)
    assert student_bound(values, 0.999) == pytest.approx(0.0510725, rel=1e-4)


@given(st.lists(LOGS, min_size=3, max_size=16).filter(lambda v: stdev(v) > 1e-6))
def test_p_value_is_scipys_one_sided_t_test(values):
    expected = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert p_value(values) == pytest.approx(expected, abs=1e-9)


def test_sequential_p_counts_all_interim_analyses():
    # One analysis of alpha 0.01 with p = 0.002: 0.01 * 0.002 / 0.01 = 0.002, the p-value itself.
    values = [0.01, 0.02, 0.03, 0.04]
    assert sequential_p(values, [InterimAnalysis(4, 0.01)]) == pytest.approx(p_value(values))
    # Two analyses that spend 0.01 each, of which only the first was made: twice its p-value.
    interim = [InterimAnalysis(4, 0.01), InterimAnalysis(8, 0.01)]
    assert sequential_p(values, interim) == pytest.approx(2 * p_value(values))
    assert sequential_p(values[:3], interim) is None


# The decision at an interim analysis


def spread_around(centre, count, sd):
    """``count`` values with exactly this mean and standard deviation."""
    raw = np.resize([-1.0, 1.0], count)
    return list(centre + sd * raw / stdev(raw))


def test_slower_needs_the_bound_above_zero_and_min_effect():
    # n = 4, s = 1 %: t(0.995; 3) = 5.841, so the bound is 2.92 % below the mean.
    assert decide(spread_around(0.035, 4, 0.01), 0.03, 0.03).finding is Finding.SLOWER
    assert decide(spread_around(0.025, 4, 0.01), 0.02, 0.03).finding is Finding.GO_ON
    # s = 0.1 %: surely slower by 2 %, but that is below min_effect and within the tolerance.
    assert decide(spread_around(0.02, 4, 0.001), 0.03, 0.05).finding is Finding.SAME


def test_faster_mirrors_slower():
    decision = decide(spread_around(-0.06, 4, 0.01), 0.03, 0.05)
    assert decision.finding is Finding.FASTER
    assert decision.estimate == pytest.approx(-0.06)
    assert decision.high < 0


def test_a_certain_slowdown_inside_a_wide_tolerance_is_still_slower():
    assert decide(spread_around(0.04, 4, 0.001), 0.03, 0.10).finding is Finding.SLOWER


def test_a_second_measurement_reaches_the_smallest_effect_together_with_the_first():
    # The bound lies t(0.995; 3) = 5.84 standard errors below: 1.5 % - 5.84 * 0.2 % / 2 > 0.
    again = spread_around(0.015, 4, 0.002)
    effect = math.expm1(0.02)
    assert decide(again, effect, 0.01).finding is Finding.GO_ON
    assert decide(again, effect, 0.01, earlier=0.024).finding is Finding.GO_ON  # mean 1.95 %
    assert decide(again, effect, 0.01, earlier=0.026).finding is Finding.SLOWER  # mean 2.05 %
    # Nothing confirms a first finding whose second bound is not above 0.
    assert decide(spread_around(0.001, 4, 0.002), effect, 0.05, earlier=0.5).finding is Finding.SAME


def test_same_needs_both_bounds_within_the_tolerance():
    # n = 4: t(0.99; 3) = 4.5407; s = 2 % gives 4.54 %, within log(1.05) = 4.88 %; s = 2.5 % 5.68 %.
    assert decide(spread_around(0.0, 4, 0.02), 0.03, 0.05).finding is Finding.SAME
    assert decide(spread_around(0.0, 4, 0.025), 0.03, 0.05).finding is Finding.GO_ON


def test_after_the_last_interim_analysis_nothing_goes_on():
    # n = 50, s = 25 %: t(0.95; 49) = 1.6766, 1.6766 * 0.25 / sqrt(50) = 5.9 % > 4.9 %.
    assert decide(spread_around(0.0, 34, 0.25), 0.03, 0.05).finding is Finding.GO_ON
    assert decide(spread_around(0.0, 50, 0.25), 0.03, 0.05).finding is Finding.INCONCLUSIVE


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 9, 12, 20, 33, 49])
def test_between_interim_analyses_nothing_is_decided(count):
    assert decide([1.0] * count, 0.03, 0.05).finding is Finding.GO_ON


@given(st.sampled_from(INTERIM_ANALYSES).flatmap(lambda k: st.lists(LOGS, min_size=k.blocks,
                                                        max_size=k.blocks)))  # fmt: skip
def test_decisions_are_symmetric(values):
    mirror = {Finding.SLOWER: Finding.FASTER, Finding.FASTER: Finding.SLOWER}
    one, other = decide(values, 0.03, 0.05), decide([-v for v in values], 0.03, 0.05)
    assert other.finding is mirror.get(one.finding, one.finding)
    assert one.low <= one.estimate <= one.high
    assert one.estimate == pytest.approx(fmean(values), abs=1e-12)


def test_blocks_without_spread_are_decided_by_their_value():
    assert decide([0.0] * 4, 0.03, 0.05).finding is Finding.SAME
    assert decide([0.1] * 4, 0.03, 0.05).finding is Finding.SLOWER


# Error rates by simulation


def test_false_alarms_on_a_bad_machine():
    quiet = simulated(2000, MOST, 0.0, seed=1)
    # Nothing changed: "slower" (and "faster") in under 0.5 % of 2000 gates, since an estimate of
    # 2 % must come about by chance; and nearly all end as "same".
    assert share(quiet, Finding.SLOWER) < 0.005
    assert share(quiet, Finding.FASTER) < 0.005
    assert share(quiet, Finding.SAME) > 0.97


def test_the_interim_analyses_spend_no_more_error_than_they_declare():
    # Without min_effect their alphas alone decide: at most 5 % by the union bound, here within
    # three standard errors of 2000 trials (1.5 %).
    quiet = simulated(2000, MOST, 0.0, seed=2)
    assert share(quiet, Finding.SLOWER, min_effect=1e-9, tolerance=1e-9) <= 0.05 + 0.015


def test_three_percent_is_found_through_noise_and_drift():
    slow = simulated(1000, MOST, 0.03, seed=3)
    assert share(slow, Finding.SLOWER) > 0.95
    assert share(slow, Finding.SAME) < 0.02
    faster = simulated(1000, MOST, 1 / 1.03 - 1, seed=4, drift=-0.2)
    assert share(faster, Finding.FASTER) > 0.95


def test_five_percent_is_found_early():
    used = [run_gate(list(row))[1] for row in simulated(500, MOST, 0.05, seed=5)]
    assert np.median(used) == 4


def test_a_slowdown_of_three_percent_is_confirmed_on_a_bad_machine():
    # Blocks that scatter by 2.5 % (normal): a second measurement that had to reach 2 % by itself
    # would confirm nine of ten.
    rng = np.random.default_rng(9)
    confirmed_once = 0
    for _ in range(500):
        first, again = (list(math.log(1.03) + 0.025 * rng.standard_normal(MOST)) for _ in range(2))
        finding, used = run_gate(first)
        if finding is Finding.SLOWER:
            second, _ = run_gate(again, earlier=fmean(first[:used]))
            confirmed_once += second is Finding.SLOWER
    assert confirmed_once >= 465  # 93 %; 95.6 % in a longer simulation


def test_sequential_p_is_valid_under_the_null():
    quiet = simulated(2000, MOST, 0.0, seed=6)
    p_values = np.array([sequential_p(list(row)) for row in quiet])
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level / 2000)


def test_a_second_finding_makes_false_alarms_of_a_whole_suite_rare():
    # 100 suites of 20 unchanged cases, without min_effect: a first measurement alone would flag
    # most suites (1 - 0.95^20 = 64 %), and confirmation with Holm almost none.
    first = simulated(2000, MOST, 0.0, seed=7).reshape(100, 20, MOST)
    second = simulated(2000, MOST, 0.0, seed=8).reshape(100, 20, MOST)
    flagged = alarms = 0
    for suite, again in zip(first, second, strict=True):
        suspects = [i for i, row in enumerate(suite)
                    if run_gate(list(row), 1e-9, 1e-9)[0] is Finding.SLOWER]  # fmt: skip
        p_values = [sequential_p(list(again[i])) for i in suspects]
        flagged += bool(suspects)
        alarms += any(confirmed(p_values))
    assert flagged > 30
    # 5 % of 64 suites are 3.2, here within three standard errors.
    assert alarms <= 8


# Starvation


def test_load_that_both_sides_share_is_no_starvation():
    slow = [0.05, 0.06, 0.04, 0.05]
    assert starvation(slow, slow, 0.03, moved=True) is None
    # Waiting that comes and goes on either side: its mean is 0.
    assert starvation([0.1, -0.1, 0.1, -0.1], [0.0] * 4, 0.03, moved=False) is None


def test_a_side_that_waits_is_starved():
    # The head takes 20 % longer, but not while it runs.
    held_back = starvation([0.18, 0.19, 0.18, 0.17], [0.0] * 4, 0.03, moved=True)
    assert held_back == pytest.approx(0.18)
    # The base was held back: without the waiting the head would be 5 % slower.
    held_back = starvation([0.0] * 4, [0.05, 0.051, 0.049, 0.05], 0.03, moved=False)
    assert held_back == pytest.approx(-0.05)


def test_a_finding_that_waiting_does_not_explain_stands():
    # 110 times as long in elapsed time, 55 times in running time: log 2 of log 110 is 15 %.
    elapsed, running = [math.log(110)] * 4, [math.log(55)] * 4
    assert starvation(elapsed, running, 0.03, moved=True) is None
    assert waiting(elapsed, running, 0.03) == pytest.approx(math.log(2))


def test_waiting_that_makes_up_half_of_a_finding_is_starvation_whatever_its_significance():
    estimates, running = [0.06, 0.04, 0.06, 0.04], [0.01, 0.035, 0.01, 0.035]
    assert starvation(estimates, running, 0.03, moved=True) == pytest.approx(0.0275)
    assert starvation(estimates, running, 0.03, moved=False) is None
    assert starvation(estimates, [e - 0.01 for e in estimates], 0.03, moved=True) is None


# Many cases


def test_holm_by_hand():
    # level 0.05, m = 3: 0.01 <= 0.05/3, 0.02 <= 0.05/2, 0.06 > 0.05/1.
    assert holm([0.06, 0.01, 0.02], 0.05) == [False, True, True]
    # 0.03 > 0.05/2 stops the procedure although 0.04 <= 0.05/1.
    assert holm([0.03, 0.04], 0.05) == [False, False]
    assert holm([], 0.05) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_no_less_than_bonferroni_and_no_more_than_each_alone(p_values, level):
    for p, rejected in zip(p_values, holm(p_values, level), strict=True):
        assert not rejected or p <= level
        assert rejected or p > level / len(p_values)


def test_a_case_alone_is_confirmed_by_its_own_interim_analyses():
    barely = spread_around(0.0292045 + 1e-5, 4, 0.01)  # t(0.995; 3) = 5.8409, half of 1 % of it
    assert decide(barely, 0.02, 0.03).finding is Finding.SLOWER
    assert confirmed([sequential_p(barely)]) == [True]


def test_several_slowdowns_are_each_measured_until_all_are_confirmed():
    """Alone the first analysis is enough for each of the two; together each has half its error."""
    # t(0.995; 3) = 5.84 and t(0.9975; 3) = 7.45 halves of 1 %: 2.92 and 3.73 %.
    barely = spread_around(0.030, 4, 0.01)
    assert decide(barely, 0.02, 0.03).finding is Finding.SLOWER
    assert confirmed([sequential_p(barely)] * 2) == [False, False]
    assert decide(barely, 0.02, 0.03, shared_among(2)).finding is Finding.GO_ON
    surely = spread_around(0.038, 4, 0.01)
    found = decide(surely, 0.02, 0.03, shared_among(2))
    assert found.finding is Finding.SLOWER
    assert confirmed([found.p_moved] * 2) == [True, True]


@given(st.lists(st.floats(-0.05, 0.15), min_size=MOST, max_size=MOST), st.integers(1, 20))
def test_what_shared_analyses_find_is_confirmed_at_any_rank(estimates, suspects):
    for analysis in shared_among(suspects):
        decision = decide(estimates[: analysis.blocks], 0.02, 0.03, shared_among(suspects))
        if decision.finding is Finding.SLOWER:
            assert all(confirmed([decision.p_moved] * suspects))
            return


def test_moving_alike():
    assert moving_alike([0.10, 0.11, 0.09, 0.10], 0.03) == pytest.approx(0.10)
    assert moving_alike([-0.2, -0.2, -0.25], 0.03) == pytest.approx(-0.2)
    assert moving_alike([0.10, 0.0, 0.0, 0.0], 0.03) is None  # one case: code
    assert moving_alike([0.10, 0.5, 0.02, 0.3], 0.03) is None  # not alike
    assert moving_alike([0.01, 0.01, 0.01], 0.03) is None  # they do not move
    assert moving_alike([0.1, 0.1], 0.03) is None  # too few to tell


# Runs that did not take turns


def test_separate_runs_are_welch_with_the_error_between_runs():
    base, head = [10.0, 10.2, 9.8, 10.1, 9.9], [12.0, 12.1, 11.9, 12.2, 11.8]
    decision = separate_runs(base, head, 0.03, 0.05)
    logs = [np.log(base), np.log(head)]
    assert decision.finding is Finding.SLOWER
    assert decision.estimate == pytest.approx(logs[1].mean() - logs[0].mean())
    welch = stats.ttest_ind(logs[1], logs[0], equal_var=False).confidence_interval(0.95)
    assert decision.high - decision.low > welch.high - welch.low


def test_separate_runs_do_not_call_a_small_shift_slower():
    base, head = [10.0, 10.01, 9.99] * 5, [10.5, 10.51, 10.49] * 5
    # Plain Welch is certain of the 5 %; between separate runs it is no finding.
    assert stats.ttest_ind(head, base, equal_var=False).pvalue < 1e-20
    assert separate_runs(base, head, 0.03, 0.05).finding is Finding.INCONCLUSIVE


def test_many_comparisons_widen_the_bound():
    base, head = [10.0, 10.1, 9.9] * 4, [10.6, 10.7, 10.5] * 4
    assert separate_runs(base, head, 0.03, 0.05).finding is Finding.SLOWER
    assert separate_runs(base, head, 0.03, 0.05, comparisons=50).finding is Finding.INCONCLUSIVE


def test_separate_runs_need_launches():
    with pytest.raises(ValueError, match="two launches"):
        separate_runs([1.0], [1.0, 2.0], 0.03, 0.05)
