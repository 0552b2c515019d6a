"""Causes by hand on networks of one or two layers, then what holds for any two cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.attribution.causes import ExplanationVerdict, attribute, difference_interval
from cspbench.attribution.prices import SMALL, components, fit_prices
from cspbench.attribution.work import Family
from cspbench.measure.statistics import Interval
from tests.attribution.sides import OVERHEAD_MS, concatenation, entry, parts_of, side


def two_layers():
    """A: 10 ms of arithmetic at the ceiling and a short concatenation; B: 6 ms and a long one."""
    a = side("plain", 21.6, [entry("3x3", 20.1, compute=10, memory=2), concatenation(1.0)])
    b = side("csp", 17.0, [entry("3x3", 12.1, compute=6, memory=2), concatenation(4.0)])
    return a, b


def test_two_layers_by_hand():
    # Without 0.1 ms of dispatch each, 20 + 12 ms for 10 + 6 ms of arithmetic: the price is 2.
    # Arithmetic 2 x 6 - 2 x 10 = -8; concatenation 4 - 1 = +3;
    # outside the layers (17.0 - 16.1) - (21.6 - 21.1) = +0.4. In all 17.0 - 21.6 = -4.6.
    it = attribute(*two_layers())
    assert parts_of(it) == {"compute": -8.0, "concatenation": 3.0, "outside": 0.4}
    assert it.difference_ms == pytest.approx(-4.6)
    assert it.residual_share == pytest.approx(0.4 / 4.6)
    assert it.verdict is ExplanationVerdict.EXPLAINED


def test_fewer_macs_yet_slower():
    a, _ = two_layers()
    b = side("csp", 27.1, [entry("3x3", 16.1, compute=8, memory=2), concatenation(10.5)])
    # -4 of arithmetic, +9.5 in concatenations, 0 outside (0.5 both): +5.5.
    it = attribute(a, b)
    assert parts_of(it) == {"compute": -4.0, "concatenation": 9.5}
    assert it.difference_ms == pytest.approx(5.5)


def test_a_kind_of_layer_that_runs_slower_than_the_others():
    # 10 ms for 10 of arithmetic, 20 for 5: the common price is 30 / 15 = 2. At that price A would
    # take 20 and B 10 (-10); A's kind takes half of it (-10), B's twice (+10): +20.
    a = side("a", 10.1, [entry("3x3", 10.1, compute=10)])
    b = side("b", 20.1, [entry("3x3 grouped", 20.1, compute=5)])
    assert parts_of(attribute(a, b)) == {"compute": -10.0, "kind": 20.0}


def test_a_stage_that_runs_slower_in_both():
    # 1x1 layers at 1 ms for 1 of arithmetic in stages.0 and 3 ms in stages.3, in both networks. B
    # has its fourth one in stages.3, A in stages.0: no difference in arithmetic, 2 ms by the stage.
    first, last = (entry("1x1", 1.1, compute=1.0), entry("1x1", 3.1, compute=1.0, stage="stages.3"))
    a = side("a", 6.4, [first, first, first, last])
    b = side("b", 8.4, [first, first, last, last])
    assert parts_of(attribute(a, b)) == {"kind": 2.0}


def test_one_kind_at_two_rates_is_residual():
    # The same kind and work, 10 and 20 ms: the price is 30 / 20, nothing says why.
    a = side("a", 10.1, [entry("3x3", 10.1, compute=10)])
    b = side("b", 20.1, [entry("3x3", 20.1, compute=10)])
    it = attribute(a, b)
    assert parts_of(it) == {"rate": 10.0}
    assert it.verdict is ExplanationVerdict.NOT_EXPLAINED


def test_layers_too_small():
    # At price 1 (the large layer alone sets it), a layer of 0.5 ms, less than 10 dispatches of
    # 0.1 ms, takes 2.1: 0.1 of dispatch, 0.5 of work, 1.5 because it is small. B has four of them.
    large = entry("3x3", 20.1, compute=20)
    small = entry("3x3", 2.1, compute=0.5)
    it = attribute(side("a", 20.1, [large]), side("b", 28.5, [large] + 4 * [small]))
    assert SMALL == 10
    assert parts_of(it) == {"overhead": 0.4, "compute": 2.0, "small": 6.0}


def test_low_arithmetic_intensity():
    # Two unknowns from two layers: 8 = 4 pc and 14 = 1 pc + 3 pm give pc = 2 and pm = 4.
    dense = entry("3x3", 8.1, compute=4, memory=4)
    thin = entry("3x3", 14.1, compute=1, memory=4)
    it = attribute(side("a", 8.1, [dense]), side("b", 14.1, [thin]))
    assert parts_of(it) == {"compute": -6.0, "intensity": 12.0}


def test_traffic_of_layers_that_only_move():
    it = attribute(
        side("a", 3.1, [entry("pooling", 3.1, memory=6)]),
        side("b", 6.1, [entry("pooling", 6.1, memory=12)]),
    )
    assert parts_of(it) == {"traffic": 3.0}  # price (3 + 6) / (6 + 12) = 0.5: 6 - 3


def test_pools_and_additions_have_prices_of_their_own():
    # Pooling runs at 2 a ms of traffic, additions at 1: B's third addition costs 1, not more.
    pool, add = entry("pooling", 4.1, memory=2), entry("addition", 1.1, memory=1)
    it = attribute(side("a", 6.3, [pool, add, add]), side("b", 7.4, [pool, add, add, add]))
    assert parts_of(it) == {"traffic": 1.0, "overhead": 0.1}


@pytest.mark.parametrize(
    ("family", "cause"),
    [
        (Family.UNFUSED, "unfused"),
        (Family.LAYOUT, "layout"),
        (Family.NOTHING, "overhead"),
        (Family.UNKNOWN, "unjoined"),
    ],
)
def test_families_that_go_to_a_cause_as_a_whole(family, cause):
    more = entry("x", 2.0, family=family)
    it = attribute(side("a", 1.0, []), side("b", 3.0, [more]))
    assert parts_of(it) == {cause: 2.0}


def test_residuals_that_cancel_out_explain_nothing():
    # +10 at another rate, -10 outside: their sum is 0, and yet they are 10 times the difference.
    a = side("a", 30.1, [entry("3x3", 10.1, compute=10)])
    b = side("b", 31.1, [entry("3x3", 20.1, compute=10), concatenation(1.0)], width=0.001)
    a = side("a", 30.1, a.entries, width=0.001)
    it = attribute(a, b)
    assert it.residual_ms == pytest.approx(0.0)
    assert it.residual_share == pytest.approx(10.0)
    assert it.verdict is ExplanationVerdict.NOT_EXPLAINED


def test_intervals_that_overlap_make_no_finding():
    a, b = side("a", 10.0, [], width=0.1), side("b", 10.5, [], width=0.1)
    it = attribute(a, b)
    # 0.5 - hypot(1.05, 1.0) = -0.95; 0.5 + hypot(1.05, 1.0) = 1.95
    assert (it.low, it.high) == (pytest.approx(-0.95), pytest.approx(1.95))
    assert it.verdict is ExplanationVerdict.INDISTINGUISHABLE


def test_one_launch_has_no_interval():
    assert difference_interval(Interval(1.0, None, None), Interval(2.0, 1.9, 2.1)) == (None, None)
    it = attribute(side("a", 1.0, [], width=None), side("b", 2.0, []))
    assert it.verdict is ExplanationVerdict.INDISTINGUISHABLE


def test_groups_align_by_stage_and_role():
    it = attribute(
        side("a", 30.3, [entry("3x3", 10.1, compute=10, stage=f"stages.{n}") for n in range(3)]),
        side("b", 25.2, [entry("3x3", 10.1, compute=10), entry("3x3", 15.1, compute=15,
                                                               stage="neck")]),
    )  # fmt: skip
    rows = {(g.stage, g.role): (g.a_count, g.b_count, round(g.difference_ms, 6)) for g in it.groups}
    assert rows == {
        ("stages.0", "3x3"): (1, 1, 0.0),
        ("stages.1", "3x3"): (1, 0, -10.1),
        ("stages.2", "3x3"): (1, 0, -10.1),
        ("neck", "3x3"): (0, 1, 15.1),
        ("", "time outside the layers"): (0, 0, 0.0),
    }
    assert it.groups[0].stage == "neck"
    assert it.groups[0].main_cause == "compute"


# -- What holds for any two cases -----------------------------------------------------------------

SIZES = st.floats(0, 50) | st.just(0.0)
ENTRIES = st.builds(
    entry,
    st.sampled_from(["1x1", "3x3", "3x3 depthwise", "pooling"]),
    st.floats(1e-3, 100),
    compute=SIZES,
    memory=SIZES,
    family=st.sampled_from(list(Family)),
    stage=st.sampled_from(["stem", "stages.0", "neck"]),
)
SIDES = st.builds(
    side, st.just("x"), st.floats(0.1, 500), st.lists(ENTRIES, max_size=12),
    width=st.none() | st.floats(0, 0.5),
)  # fmt: skip


@given(SIDES, SIDES)
def test_parts_and_groups_add_up_to_the_measured_difference(a, b):
    it = attribute(a, b)
    scale = a.latency.estimate + b.latency.estimate + math.fsum(
        one.ms for each in (a, b) for one in each.entries
    )  # fmt: skip
    for sums in (it.parts, it.groups):
        total = math.fsum(one.difference_ms for one in sums)
        assert total == pytest.approx(it.difference_ms, abs=1e-7 * scale)
    for group in it.groups:
        assert math.fsum(group.causes.values()) == pytest.approx(
            group.difference_ms, abs=1e-7 * scale
        )


def test_an_interval_over_blocks_reaches_to_what_all_blocks_give():
    """All blocks together: concatenation 4 - 1 = 3. Each alone: 5 - 1 = 4, so 4 to 4 by itself."""
    alone = side("csp", 18.0, [entry("3x3", 12.1, compute=6, memory=2), concatenation(5.0)])
    a, b = two_layers()
    it = attribute(a, b, blocks=[(a, alone), (a, alone)])
    found = {part.key: (part.low, part.difference_ms, part.high) for part in it.parts}
    assert found["concatenation"] == pytest.approx((3.0, 3.0, 4.0))
    groups = {group.role: (group.low, group.difference_ms, group.high) for group in it.groups}
    assert groups["concatenation"] == pytest.approx((3.0, 3.0, 4.0))


def test_work_that_is_nothing_but_rounding_carries_no_price():
    # All of the time is the traffic's; at a price of 1.9 / 1e-45 the second layer's parts would not
    # add up to its 1 ms any more.
    moves = entry("1x1", 2.0, compute=1e-45, memory=1.0, family=Family.ARITHMETIC)
    small = entry("1x1", 1.0, compute=0.5, family=Family.ARITHMETIC)
    prices = fit_prices([moves], [small])
    for one in (moves, small):
        assert math.fsum(components(one, prices).values()) == pytest.approx(one.ms)


@given(SIDES, SIDES)
def test_every_entry_is_taken_apart_without_a_rest(a, b):
    prices = fit_prices(a.entries, b.entries)
    for one in (*a.entries, *b.entries):
        found = components(one, prices)
        assert all(math.isfinite(ms) for ms in found.values())
        assert math.fsum(found.values()) == pytest.approx(one.ms, rel=1e-6, abs=1e-6)


@given(SIDES, SIDES)
def test_it_is_antisymmetric(a, b):
    there, back = attribute(a, b), attribute(b, a)
    for one, other in zip(there.parts, back.parts, strict=True):
        assert one.difference_ms == pytest.approx(-other.difference_ms, rel=1e-6, abs=1e-6)
    assert there.verdict is back.verdict
    if there.low is not None:
        assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))


@given(SIDES)
def test_a_case_against_itself_has_no_causes(a):
    it = attribute(a, a)
    assert parts_of(it) == {}
    assert it.residual_share is None
    assert it.verdict is ExplanationVerdict.INDISTINGUISHABLE


@given(SIDES, SIDES)
def test_prices_are_never_negative(a, b):
    for price in fit_prices(a.entries, b.entries).values():
        assert price.compute >= 0
        assert price.waiting >= 0
        assert all(kind >= 0 for kind in price.kinds.values())


def test_dispatch_is_at_most_the_time():
    short = entry("pooling", 0.04, memory=1.0)
    assert short.overhead_ms == 0.04 < OVERHEAD_MS
    assert components(short, fit_prices([short], []))["overhead"] == 0.04
