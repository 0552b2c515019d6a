"""What would help: variants of a case, predicted by hand, and measured."""

import json

import pytest

from cspbench.analysis.roofline import Peak
from cspbench.attribution.remedies import (
    Rates,
    Remedy,
    _other_values,
    by_place,
    plan_trial,
    rates_of,
    rows,
    sentences,
    variants_of,
    with_measured,
)
from cspbench.attribution.work import Family, expected_entries
from cspbench.core.case import Case
from cspbench.core.options import Axis
from cspbench.measure.ratios import ratio_of
from cspbench.store.blocks import ELAPSED
from cspbench.store.ratios import CaseRatio
from tests.attribution.sides import entry, side
from tests.views.test_layer_join import small

#: 1 ms for 2,000 FLOPs or 1,000 bytes; 0.1 ms a dispatch.
PEAK = Peak(flops_per_s=2e6, bytes_per_s=1e6, overhead_s=1e-4)


def rates(*entries, unfused=None):
    return Rates(tuple(entries), {}, unfused or {})


def test_a_layer_is_taken_to_reach_the_rate_of_the_most_alike():
    # Without prices the usual time is the ceiling's: 4 ms took 8.1 - 0.1, 40 ms took 120.1 - 0.1.
    near = entry("1x1 convolution", 8.1, compute=4.0, memory=1.0)
    far = entry("1x1 convolution", 120.1, compute=40.0, memory=10.0)
    other_role = entry("3x3 convolution", 5.1, compute=5.0, memory=1.0)
    new = entry("1x1 convolution", 0.1, compute=5.0, memory=1.0)
    # Twice its ceiling as `near`: 5 x 2, and the dispatch.
    assert rates(near, far, other_role).predicted_ms(new) == pytest.approx(10.1)
    # A role that neither network has: the most alike of its family, here once the ceiling.
    assert rates(far, other_role).predicted_ms(
        entry("5x5 depthwise", 0.1, compute=5.0, memory=1.0)
    ) == pytest.approx(5.1)
    # Nothing of its family: the ceiling.
    assert rates().predicted_ms(new) == pytest.approx(5.1)


def test_the_prediction_of_a_timed_network_is_its_own_time():
    layers = small()
    [first, second, addition] = expected_entries(layers, PEAK)
    assert [one.role for one in (first, second, addition)] == [
        "any size convolution", "any size convolution", "addition",
    ]  # fmt: skip
    timed = [
        entry(one.role, ms, compute=one.compute_ms, memory=one.memory_ms, family=one.family,
              stage=one.stage)
        for one, ms in ((first, 3.0), (second, 7.0), (addition, 2.0))
    ]  # fmt: skip
    found = by_place(layers, PEAK, rates(*timed))
    assert sum(found.values()) == pytest.approx(12.0)


def test_an_activation_that_ran_alone_is_priced_by_its_elements():
    layers = small()
    for layer in layers:
        layer.output_elements = 256
    relu = entry("activation", 6.0, family=Family.UNFUSED, layers=("b.act",))
    own = side("a", 10.0, [relu])
    found = rates_of([(own, layers), (own, layers)])
    # 6 ms in each of the two, for a.act and b.act with 256 elements each.
    assert found.unfused["relu"] == pytest.approx(12.0 / (4 * 256))


def test_a_network_with_an_activation_that_was_never_timed_is_not_predicted():
    layers = small()
    for layer in layers:
        if layer.kind == "activation":
            layer.op = "mish"
    assert by_place(layers, PEAK, rates()) is None
    assert by_place(layers, PEAK, rates(unfused={"mish": 0.0, "batch_norm": 0.0})) is not None


@pytest.mark.parametrize(
    ("axis", "now", "others"),
    [
        (Axis("gamma", 0.5, "fraction"), 0.5, [0.25, 0.75]),
        (Axis("gamma", 0.5, "fraction"), 0.6, [0.5, 0.75]),
        (Axis("gamma", 0.5, "fraction"), 0.75, [0.5]),
        (Axis("act", "leaky", "choice", ("leaky", "relu", "mish")), "relu", ["leaky", "mish"]),
        (Axis("se", False, "flag"), True, [False]),
        (Axis("weights", "", "text"), "", []),
    ],
)
def test_neighbours_of_an_option(axis, now, others):
    assert sorted(map(str, _other_values(axis, now))) == sorted(map(str, others))


def test_variants_differ_in_one_option_and_exist():
    case = Case.parse("csppeleenet@64/opencv-cpu/b1/t1")
    found = {str(variant): change for variant, change in variants_of(case)}
    assert all(id_ != str(case) for id_ in found)
    assert len(found) == len(set(found))
    for id_ in found:
        parsed = Case.parse(id_)
        assert (parsed.input, parsed.backend, parsed.batch) == (case.input, case.backend, 1)
    assert found["csppeleenet[gamma=0.75]@64/opencv-cpu/b1/t1"] == "gamma=0.75 instead of 0.5"


def test_an_option_that_brings_another_one_says_so():
    found = dict(variants_of(Case.parse("resnet50+prn@64/opencv-cpu/b1/t1")))
    changes = {str(variant.model_id): change for variant, change in found.items()}
    assert changes["resnet50[csp.fusion=csp,csp.gamma=0.25]+prn@64"] == (
        "csp.fusion=csp instead of none, csp.gamma=0.25 instead of 0.5"
    )
    assert changes["resnet50+prn[act=relu]@64"] == "neck act=relu instead of leaky"


PLACES = (("3x3 convolution of stages.1", -1.5), ("1x1 convolution of stages.1", -0.5))
REMEDY = Remedy("b[g=1]@64/opencv-cpu/b1/t1", "g=1 instead of 2", 10.0, 8.0, PLACES)


class Trial:
    """A run whose blocks show the variant to take 0.85 times as long as B."""

    in_turn = property(lambda self: self)

    def ratio(self, case, base):
        assert base == "b@64/opencv-cpu/b1/t1"
        if case != REMEDY.case:
            return None
        return CaseRatio(ratio_of([-0.16, -0.165, -0.1625]), ELAPSED, "undisturbed", 0.85)


def test_predicted_and_measured_stand_side_by_side():
    assert REMEDY.predicted_gain_ms == 2.0
    head, before = sentences([REMEDY])
    assert head.startswith("What would help B, predicted from the layers timed here")
    assert before == (
        "- g=1 instead of 2: 8.00 ms instead of 10.0 ms (-1.50 in 3x3 convolution of stages.1, "
        "-0.500 in 1x1 convolution of stages.1)."
    )
    [one] = with_measured([REMEDY], Trial(), "b@64/opencv-cpu/b1/t1")
    # exp(-0.1625) = 0.850.
    assert one.measured_ms == pytest.approx(8.5, rel=1e-3)
    assert one.low < 8.5 < one.high
    assert "; measured: 8.50 ± " in sentences([one])[1]
    [row] = rows([one])
    assert row["predicted_ms"] == 8.0
    json.dumps(row, allow_nan=False)
    assert sentences([]) == []


def test_a_trial_measures_the_case_and_its_best_variants():
    b = "csppeleenet@64/opencv-cpu/b1/t1"
    ids = [str(variant) for variant, _ in variants_of(Case.parse(b))]
    plan = plan_trial(b, [Remedy(id_, "", 1.0, 0.9, ()) for id_ in ids], 3)
    assert [planned.id for planned in plan.cases] == [b, *ids[:2]]
