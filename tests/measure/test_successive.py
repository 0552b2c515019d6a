"""Each burst against the one right before it: levels of all processes of a block."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.measure.orders import balanced_orders
from cspbench.measure.ratios import ratio_of, typical_estimate
from cspbench.measure.successive import Turn, comparisons, levels


def turns(*rounds):
    """Bursts one after the other; each round lists (process, time)."""
    flat = [(number, arm, time) for number, round_ in enumerate(rounds) for arm, time in round_]
    return [
        Turn(arm, number, began, math.log(time)) for began, (number, arm, time) in enumerate(flat)
    ]


def test_a_burst_is_compared_with_the_one_before_it():
    found = comparisons(turns([(0, 10), (1, 20)], [(1, 30), (0, 60)]))
    # 1 ran after itself at the turn of the round: that says nothing. log(60 / 30) is 0's.
    assert found == [(0, 1, 0, pytest.approx(math.log(2))), (1, 0, 1, pytest.approx(math.log(2)))]


def test_the_order_is_that_in_which_the_bursts_began():
    in_order = turns([(0, 10), (1, 20), (2, 30)])
    assert comparisons(reversed(in_order)) == comparisons(in_order)


def test_two_that_alternate():
    # 12 / 10 in each of four pairs, in either order, and 90 / 10 in one.
    pair, other = [(0, 10), (1, 12)], [(1, 12), (0, 10)]
    found = comparisons(turns(pair, other, [(0, 10), (1, 90)], other, pair))
    assert levels(found, 2) == pytest.approx([0, math.log(1.2)], abs=1e-4)


def test_a_machine_that_slows_down_from_burst_to_burst_changes_nothing():
    # Each burst takes 2 % longer than the one before would: b is 2 a, c is 3 a.
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2)]
    rounds, slower = [], 1.0
    for order in orders:
        rounds.append([])
        for arm in order:
            rounds[-1].append((arm, (arm + 1) * slower))
            slower *= 1.02
    found = levels(comparisons(turns(*rounds)), 3)
    assert found == pytest.approx([0, math.log(2), math.log(3)])


def test_a_spoilt_burst_moves_nothing():
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2)]
    rounds = [[(arm, arm + 1.0) for arm in order] for order in orders]
    rounds[1][1] = (2, 500.0)
    found = levels(comparisons(turns(*rounds)), 3)
    assert found == pytest.approx([0, math.log(2), math.log(3)], abs=1e-3)


def test_processes_that_no_comparison_connects_have_no_levels():
    assert levels([], 2) is None
    assert levels(comparisons(turns([(0, 10), (1, 11)])), 3) is None


def test_two_that_come_in_one_order_have_a_ratio_without_a_trend():
    """The even rounds of two that alternate: AB, AB, ..."""
    found = comparisons(turns([(0, 10), (1, 11)])) * 4
    assert levels(found, 2) == pytest.approx([0, math.log(1.1)])


def test_bursts_of_two_rounds_belong_to_neither():
    found = comparisons(turns([(0, 10), (1, 20)], [(0, 10), (1, 20)]))
    assert [each[2] for each in found] == [0, None, 1]


def test_a_block_of_thousands_is_not_fitted():
    assert levels([(0, 1, 0, 0.1)], 10_000) is None


@given(st.permutations(range(4)), st.integers(0, 1000))
def test_names_play_no_part(names, seed):
    rng = np.random.default_rng(seed)
    rounds = [
        [(arm, float(rng.uniform(1, 2))) for arm in order]
        for order in itertools.islice(balanced_orders(4, str(seed)), 8)
    ]
    renamed = [[(names[arm], time) for arm, time in round_] for round_ in rounds]
    plain = levels(comparisons(turns(*rounds)), 4)
    other = levels(comparisons(turns(*renamed)), 4)
    for arm in range(4):
        assert other[names[arm]] - other[names[0]] == pytest.approx(plain[arm], abs=1e-4)


#: Cases, and rounds of a block.
CASES, ROUNDS = 8, 14


def block(rng, remembers, own=0.01):
    """Times of 8 cases, case n 10 n % slower than case 0, on a machine whose speed wanders.

    From burst to burst it keeps the share ``remembers`` of what it was off, so after a round of
    eight it has forgotten nearly all. A process draws its ``own`` speed, and a burst 2 %.
    """
    drawn = rng.normal(0, own, CASES)
    speed, rounds = 0.0, []
    for order in itertools.islice(balanced_orders(CASES, str(rng.integers(10**6))), ROUNDS):
        rounds.append([])
        for case in order:
            speed = remembers * speed + rng.normal(0, 0.1 * math.sqrt(1 - remembers**2))
            log = math.log(1 + 0.1 * case) + drawn[case] + speed + rng.normal(0, 0.02)
            rounds[-1].append((case, math.exp(log)))
    return rounds


def by_rounds(rounds, case):
    times = [dict(round_) for round_ in rounds]
    return typical_estimate([of[0] for of in times], [of[case] for of in times])


def by_successive(rounds, case):
    return levels(comparisons(turns(*rounds)), CASES)[case]


def test_where_the_speed_changes_within_a_round_successive_bursts_are_sharper():
    rng = np.random.default_rng(1)
    blocks = [block(rng, remembers=0.9, own=0) for _ in range(150)]
    by = {way: np.std([way(rounds, 3) for rounds in blocks]) for way in (by_rounds, by_successive)}
    assert by[by_successive] < 0.8 * by[by_rounds]


def test_where_each_burst_is_disturbed_by_itself_rounds_are_sharper():
    rng = np.random.default_rng(1)
    blocks = [block(rng, remembers=0.0, own=0) for _ in range(150)]
    by = {way: np.std([way(rounds, 3) for rounds in blocks]) for way in (by_rounds, by_successive)}
    assert by[by_rounds] < by[by_successive]


@pytest.mark.parametrize("remembers", [0.0, 0.5, 0.8, 0.99])
def test_intervals_over_blocks_hold_the_true_ratios(remembers):
    """Five blocks a run, 320 runs of seven ratios, which share a reference."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(320):
        found = [levels(comparisons(turns(*block(rng, remembers))), CASES) for _ in range(5)]
        for case in range(1, CASES):
            ratio = ratio_of([of_block[case] for of_block in found])
            held += ratio.low <= 1 + 0.1 * case <= ratio.high
    assert 0.925 <= held / (320 * 7) <= 0.975
