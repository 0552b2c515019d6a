"""Each verdict, from numbers made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench import literature
from cspbench.measure.statistics import Interval
from cspbench.paper.claims import RULES, check, check_all, checklist
from cspbench.paper.comparison import VERDICTS, Comparison, combine, times
from cspbench.paper.evidence import MeasuredCase, speed_ratio
from cspbench.paper.speeds import above_one, meets_ratio
from cspbench.store.ratios import InTurn
from tests.launches import stored_launch
from tests.paper.fixtures import analysis, case, claim, evidence, lost

# Definitions: peleenet and csppeleenet are confirmed, csppeleenet-ref is searched, gfm is open.
LESS = {"metric": "bflops", "of": "csppeleenet@224", "against": ["peleenet@224"], "pct": -13}
TINY, PRN = "yolov3-tiny@416", "yolov3-tiny-prn@416"
SPEED = {"of": PRN, "than": TINY, "backends": ["opencv-cpu"], "device": "X", "published": "more"}


PAIRS = [["csppeleenet@224", "peleenet@224"], ["cspresnet50@256", "resnet50@256"]]


def counts(csp: float, dense: float = 1.0):
    return evidence(
        analyses=[analysis("csppeleenet@224", bflops=csp), analysis("peleenet@224", bflops=dense)]
    )


@pytest.mark.parametrize(
    ("csp", "verdict"),
    [
        (0.87, "reproduced"),
        (0.8651, "reproduced"),  # -13.49 % rounds to -13 %
        (0.8649, "not reproduced"),  # -13.51 % rounds to -14 %
        (0.88, "not reproduced"),
        (1.13, "not reproduced"),  # more, not less
    ],
)
def test_a_change_is_met_within_half_of_its_last_digit(csp, verdict):
    assert check(claim("change", **LESS), counts(csp)).verdict == verdict


def test_a_change_says_what_it_compared():
    found = check(claim("change", **LESS), counts(0.888, 1.017))
    assert found.ours == "−12.7 % (from 1.017 to 0.888 BFLOPs)"  # 0.888 / 1.017 = 0.8732
    assert found.outcome.published == "−13 %"
    assert found.outcome.used == ("csppeleenet@224", "peleenet@224")


def test_a_searched_definition_is_reconstruction_only_and_still_says_whether_it_agrees():
    test = {**LESS, "of": "csppeleenet[fusion=last]@224", "pct": -20}
    known = [analysis("peleenet@224", bflops=1.0)]
    for bflops, text in ((0.8, "our reconstruction agrees"), (0.7, "does not agree")):
        one = analysis("csppeleenet[fusion=last]@224", bflops=bflops)
        found = check(claim("change", **test), evidence(analyses=[*known, one]))
        assert found.verdict == "reconstruction only"
        assert text in found.reason
        assert "csppeleenet[fusion=last]@224: searched" in found.reason


def test_a_network_that_no_run_analysed_is_named():
    found = check(claim("change", **LESS), evidence(analyses=[analysis("peleenet@224", bflops=1)]))
    assert found.verdict == "not testable here"
    assert found.reason == "no run has analysed csppeleenet@224"


def test_of_several_possible_baselines_one_that_agrees_is_enough():
    test = {**LESS, "against": ["peleenet@224", "speleenet@224"], "pct": -50}
    known = [
        analysis("csppeleenet@224", bflops=1.0), analysis("peleenet@224", bflops=1.2),
        analysis("speleenet@224", bflops=2.0),
    ]  # fmt: skip
    assert check(claim("change", **test), evidence(analyses=known)).verdict == "reproduced"
    # One that is missing might be the one that was meant.
    assert check(claim("change", **test), evidence(analyses=known[:2])).verdict == (
        "not testable here"
    )


def test_every_pair_must_fall_by_at_least_so_much():
    test = {"metric": "bflops", "pct": -10, "pairs": PAIRS}
    resnet = [analysis("cspresnet50@256", bflops=0.921), analysis("resnet50@256", bflops=1.0)]

    def pele(bflops):
        return [analysis("csppeleenet@224", bflops=bflops), analysis("peleenet@224", bflops=1.0)]

    found = check(claim("at_least", **test), evidence(analyses=[*pele(0.9), *resnet]))
    assert found.verdict == "not reproduced"
    # 8.97 / 9.74 = 0.921: the published counts of this pair miss the claim as well.
    assert "cspresnet50 −7.9 % (the published counts say −7.9 %)" in found.ours
    resnet[0] = analysis("cspresnet50@256", bflops=0.9)
    assert check(claim("at_least", **test), evidence(analyses=[*pele(0.9), *resnet])).verdict == (
        "reproduced"
    )


def test_one_firm_part_against_the_claim_settles_it_though_others_are_missing():
    test = {"metric": "bflops", "pct": -10, "pairs": PAIRS}
    assert check(claim("at_least", **test), counts(0.95)).verdict == "not reproduced"
    assert check(claim("at_least", **test), counts(0.85)).verdict == "not testable here"


def test_counts_round_to_the_printed_digits():
    test = {"metric": "cio_paper", "unit": 1e6, "printed": {"resnext50@256": "34.4"}}

    def verdict(value):
        known = evidence(analyses=[analysis("resnext50@256", cio_paper=value)])
        return check(claim("count", **test), known).verdict

    assert verdict(34_449_000) == "reproduced"
    assert verdict(34_451_000) == "not reproduced"


def test_the_largest_layer_depends_on_the_backbone_where_it_lies_there():
    """efm is searched, but Fig. 7 draws no layer of its head above 0.19936."""
    test = {"metric": "max_layer_bflops", "of": "csppeleenet+efm@416",
            "against": ["peleenet+prn@416"], "pct": -44}  # fmt: skip
    base = analysis("peleenet+prn@416", max_layer_bflops=0.354419)

    def verdict(place, bflops=0.199361):
        one = analysis("csppeleenet+efm@416", {"max_layer_bflops": place}, max_layer_bflops=bflops)
        return check(claim("change", **test), evidence(analyses=[base, one])).verdict

    assert verdict("backbone.stages.0.t1.conv") == "reproduced"
    assert verdict("neck.top.1.conv") == "reconstruction only"
    # A backbone whose largest layer is below a bar of the head says nothing about the whole.
    assert verdict("backbone.stages.0.t1.conv", 0.15) == "reconstruction only"


def test_faster_beyond_the_interval():
    known = evidence([case(PRN, 10.0), case(TINY, 13.0)])
    found = check(claim("faster", **SPEED), known)
    assert found.verdict == "reproduced"
    # 13 / 10; half widths ln(1.02 / 0.98) / 2 = 0.0200 each, joined 0.0283: 1.3 e^(-+0.0283)
    assert found.ours == "×1.30 (1.26 to 1.34, separate launches) on opencv-cpu"
    assert found.outcome.used == (f"{PRN}/opencv-cpu/b1/t1", f"{TINY}/opencv-cpu/b1/t1")


def test_slower_beyond_the_interval():
    found = check(claim("faster", **SPEED), evidence([case(PRN, 13.0), case(TINY, 10.0)]))
    assert found.verdict == "not reproduced"


def test_within_the_interval_nothing_is_said():
    found = check(claim("faster", **SPEED), evidence([case(PRN, 10.0), case(TINY, 10.2)]))
    assert found.verdict == "not distinguishable here"


def test_one_launch_has_no_interval():
    alone = {**case(PRN, 10.0), "latency_ms_low": math.nan, "latency_ms_high": math.nan}
    found = check(claim("faster", **SPEED), evidence([alone, case(TINY, 20.0)]))
    assert found.verdict == "not distinguishable here"
    assert found.ours == "×2.00 (no interval, separate launches) on opencv-cpu"


def test_a_case_that_failed_or_cannot_run_gives_its_reason():
    known = evidence([case(TINY, 10.0), lost(PRN, "crashed", "the worker was ended by SIGSEGV")])
    found = check(claim("faster", **SPEED), known)
    assert found.verdict == "not testable here"
    assert found.reason == f"{PRN}: opencv-cpu: the worker was ended by SIGSEGV"
    mobile = {**SPEED, "backends": ["jetson"]}
    known = evidence([lost(m, "unavailable", "not a board", "jetson") for m in (PRN, TINY)])
    assert check(claim("faster", **mobile), known).reason == f"{PRN}, {TINY}: jetson: not a board"
    assert check(claim("faster", **mobile), evidence()).reason == (
        f"{PRN}, {TINY}: not in any run on jetson"
    )


def test_cases_of_different_runs_are_never_compared():
    found = check(claim("faster", **SPEED), evidence([case(PRN, 10.0)], [case(TINY, 13.0)]))
    assert found.verdict == "not testable here"


def test_the_newest_run_that_has_both_counts_and_the_first_backend_that_has():
    slow = [case(PRN, 20.0), case(TINY, 10.0)]
    fast = [case(PRN, 10.0), case(TINY, 20.0)]
    assert check(claim("faster", **SPEED), evidence(slow, fast)).verdict == "reproduced"
    assert check(claim("faster", **SPEED), evidence(fast, slow)).verdict == "not reproduced"
    both = {**SPEED, "backends": ["torch-cuda", "opencv-cpu"]}
    gpu = [case(PRN, 2.0, backend="torch-cuda"), case(TINY, 1.0, backend="torch-cuda")]
    assert check(claim("faster", **both), evidence(fast + gpu)).ours.endswith("torch-cuda")
    assert check(claim("faster", **both), evidence(fast + gpu[:1])).ours.endswith("opencv-cpu")


RATIO = {"table": "table5", "of": PRN, "against": TINY, "backends": ["opencv-cpu"]}


@pytest.mark.parametrize(
    ("latency_ms", "share", "verdict"),
    [
        (13.1, 0.02, "reproduced"),  # published 71 / 54 = 1.31
        (15.5, 0.02, "reproduced"),  # 1.55 < 1.2 x 1.31 = 1.58
        (17.0, 0.02, "not reproduced"),
        (9.0, 0.02, "not reproduced"),
        (11.2, 0.02, "reproduced"),  # 1.12 > 1.31 / 1.2 = 1.10
        (11.2, 0.20, "not distinguishable here"),  # 0.84 to 1.49: holds 1
    ],
)
def test_a_ratio_is_met_within_twenty_percent(latency_ms, share, verdict):
    known = evidence([case(PRN, 10.0, share), case(TINY, latency_ms, share)])
    found = check(claim("ratio", **RATIO), known)
    assert found.verdict == verdict
    assert found.outcome.published == "54 → 71 fps = ×1.31"


def test_a_ratio_over_two_published_devices_says_so():
    test = {**RATIO, "of": "cspdensenetb-ref+prn@320", "against": "thundernet-snet49@320"}
    known = evidence([case(test["of"], 10.0), case(test["against"], 21.7)])
    found = check(claim("ratio", **test), known)
    assert found.outcome.published == "47 → 102 fps = ×2.17"
    assert "Xeon" in found.outcome.note
    assert found.verdict == "reconstruction only"


ORDER = {"table": "table5", "device": "i9-9900K, OpenCV DNN", "backends": ["opencv-cpu"]}
#: Published: 102, 95, 75, 71, 54, 52 fps.
PUBLISHED_ORDER = [
    "cspdensenetb-ref+prn@320", "cspdensenet-ref+prn@320", "csppeleenet-ref+prn@320", PRN, TINY,
    "csppeleenet-ref+prn-3l@320",
]  # fmt: skip


def ordered(*latencies_ms):
    rows = [case(m, ms) for m, ms in zip(PUBLISHED_ORDER, latencies_ms, strict=False)]
    return check(claim("order", **ORDER), evidence(rows))


def test_an_order_of_reconstructions_is_told_but_proves_nothing():
    found = ordered(10, 11, 13, 14, 18, 19)
    assert found.verdict == "reconstruction only"
    assert "our reconstruction agrees" in found.reason
    assert found.outcome.note == "15 of 15 pairs are compared by separate launches"
    assert found.ours.startswith("cspdensenetb-ref+prn 100.0 > cspdensenet-ref+prn 90.9 > ")


def test_two_firm_networks_in_the_other_order_are_enough_against_it():
    assert ordered(10, 11, 13, 18, 14, 19).verdict == "not reproduced"


def test_a_reconstruction_in_another_place_does_not_agree():
    found = ordered(12, 11, 13, 14, 18, 19)
    assert found.verdict == "reconstruction only"
    assert "does not agree" in found.reason


def test_an_order_with_a_missing_case_is_not_testable():
    found = ordered(10, 11, 13, 14, 18)
    assert found.verdict == "not testable here"
    assert found.reason == "csppeleenet-ref+prn-3l@320: not in any run on opencv-cpu"
    assert "cspdensenetb-ref+prn 100.0" in found.ours


def test_every_claim_of_the_paper_has_a_rule_a_place_and_a_group():
    claims = literature.claims()
    assert len({one.name for one in claims}) == len(claims)
    for one in claims:
        assert one.test["kind"] in RULES
        assert one.place
        assert one.group in ("computation", "memory", "speed", "accuracy")


def test_without_evidence_nothing_is_testable():
    findings = check_all(evidence())
    assert {found.verdict for found in findings} == {"not testable here"}
    assert all(found.reason for found in findings)
    frame = checklist(findings)
    assert list(frame["claim"]) == [one.name for one in literature.claims()]
    assert not (frame["origin"][frame["group"] == "speed"] == "computed").any()


parts = st.builds(
    Comparison,
    ours=st.just("x"),
    agrees=st.sampled_from([True, False, None]),
    weak=st.sampled_from([(), ("net: open",)]),
    missing=st.sampled_from(["", "", "", "not there"]),
)


@given(st.lists(parts, min_size=1, max_size=5))
def test_a_verdict_follows_from_the_parts_whatever_their_order(found):
    verdict, _ = combine(found)
    assert verdict in VERDICTS
    assert combine(found[::-1])[0] == verdict
    firm = [part for part in found if not part.weak and not part.missing]
    assert (verdict == "not reproduced") == any(part.agrees is False for part in firm)
    if verdict == "reproduced":
        assert all(part.agrees and not part.weak and not part.missing for part in found)


def test_cases_that_took_turns_are_compared_by_their_blocks():
    """The latencies scatter far too much to tell, the blocks say 2.0 each."""
    fast, slow = "a@64/cpu/b1/t1", "b@64/cpu/b1/t1"
    launches = []
    for block, ms in enumerate((10, 30, 90)):
        for name, factor in ((fast, 1), (slow, 2)):
            turns = {"block": str(block), "counts": [1, 1]}
            launches.append(stored_launch(name, ms=[factor * ms] * 2, turns=turns))
    in_turn = InTurn(launches)
    cases = [
        MeasuredCase(name, "run", Interval(30 * factor, 1, 1000), in_turn)
        for name, factor in ((fast, 1), (slow, 2))
    ]
    found = speed_ratio(*cases)
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2, 2))
    assert times(found) == "×2.00 (2.00 to 2.00)"
    # Of two runs there is only the quotient of the latencies.
    other = replace(cases[1], run="another run")
    apart = speed_ratio(cases[0], other)
    assert apart.low < 0.1
    assert times(apart).endswith(", separate launches)")


latencies = st.floats(0.1, 1e4)
shares = st.floats(0.001, 0.5)


@given(latencies, shares, latencies, shares)
def test_turning_a_ratio_round_turns_what_it_says(first, s1, second, s2):
    one = MeasuredCase("one", "run", Interval(first, first * (1 - s1), first * (1 + s1)))
    two = MeasuredCase("two", "run", Interval(second, second * (1 - s2), second * (1 + s2)))
    there, back = speed_ratio(one, two), speed_ratio(two, one)
    assert there.estimate * back.estimate == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert there.low <= there.estimate <= there.high
    says = above_one(there)
    assert above_one(back) is (None if says is None else not says)
    assert meets_ratio(there, there.estimate) is not False


def test_an_analysis_without_the_dense_blocks_misses_them_instead_of_failing():
    """A stranger's run may hold any layers under a network's name."""
    known = [analysis("peleenet@224"), analysis("csppeleenet@224")]
    blocks = {"dense": "peleenet@224", "partial": "csppeleenet@224", "blocks": ["stages.0.blocks"],
              "rule": "about"}  # fmt: skip
    found = check(claim("block_traffic", **blocks), evidence(analyses=known))
    assert found.verdict == "not testable here"
    assert "no dense block stages.0.blocks" in str(found)
