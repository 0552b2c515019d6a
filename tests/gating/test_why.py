"""Why a case became slower: layers of both sides, by hand and with real workers."""

import pytest
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.gating.measure import load_request
from cspbench.gating.selftest import quickest_case
from cspbench.gating.verdict import Verdict
from cspbench.gating.why import LayerShift, layer_shifts, profiled_block, why_text
from cspbench.jobs.layers import LayerTimes
from cspbench.runner.arms import ArmSpec, WorkerArm
from cspbench.runner.executor import LocalExecutor
from cspbench.suite.load import load_suite
from tests.gating.arms import Machine
from tests.gating.gates import gate


def times(total, **ns):
    return LayerTimes([(name, "Conv", value, [name]) for name, value in ns.items()], [], total)


def one(base, head):
    return [{"base": base, "head": head}]


def test_a_layer_takes_its_share_of_the_unprofiled_time():
    # Base: a is 30 of 100 ns of 10 ms, 3 ms. Head: 60 of 200 ns of 20 ms, 6 ms.
    shifts = layer_shifts(one(times(100, a=30, b=70), times(200, a=60, b=140)), 10.0, 20.0)
    assert [(s.name, s.base_ms, s.head_ms) for s in shifts] == [("b", 7, 14), ("a", 3, 6)]
    assert [s.change_ms for s in shifts] == pytest.approx([7, 3])


def test_layers_of_one_side_are_new_or_gone():
    new, gone = layer_shifts(one(times(10, a=10), times(10, b=10)), 1.0, 2.0)
    assert new.text == "b (Conv): new, 2 ms"
    assert gone.text == "a (Conv): gone, 1 ms"


def test_layers_of_one_name_are_told_apart_by_their_place():
    entries = [("conv", "Conv", 10, []), ("conv", "Conv", 90, [])]
    both = LayerTimes(entries, [], 100)
    shifts = layer_shifts(one(both, both), 1.0, 1.0)
    assert [s.base_ms for s in shifts] == pytest.approx([0.1, 0.9])


def chain(**ns):
    """A profile of a chain of modules, whose layers take so many ns of as many ms in all."""
    names = [f"/{name[1:]}/Conv" for name in ns]
    nodes = [(name, "Conv", [n - 1] if n else [], []) for n, name in enumerate(names)]
    entries = [
        (name, "Conv", value, [name]) for name, value in zip(names, ns.values(), strict=True)
    ]
    return LayerTimes(entries, nodes, sum(ns.values()))


def test_an_added_layer_shifts_the_names_of_others_and_is_the_one_that_is_named():
    # The second convolution, 6 ms, is /1/Conv on the base and /2/Conv on the head: by their names
    # /1/Conv would have become 3 ms faster, and a new /2/Conv would take 6 ms.
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
    base, head = (
        analyze(nn.Sequential(*layers), (1, 3, 8, 8))
        for layers in ([first, second], [first, nn.Conv2d(4, 4, 1), second])
    )
    blocks = one(chain(_0=4, _1=6), chain(_0=4, _1=3, _2=6))
    added, *others = layer_shifts(blocks, 10.0, 13.0, base, head)
    assert added.text == "/1/Conv (Conv): new, 3 ms"
    assert [(s.name, s.base_ms, s.head_ms) for s in others] == [
        ("/0/Conv", 4, 4),
        ("/2/Conv", 6, 6),
    ]
    gone, *_ = layer_shifts([{"base": it["head"], "head": it["base"]} for it in blocks], 13.0, 10.0,
                            head, base)  # fmt: skip
    assert gone.text == "/1/Conv (Conv): gone, 3 ms"


def test_layers_that_are_known_on_one_side_only_are_joined_by_their_names():
    # What the head's entries compute is not known, as where a layer became several nodes there.
    net = analyze(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), (1, 3, 8, 8))
    head = LayerTimes(chain(_0=5, _1=7).entries, [], 12)
    shifts = layer_shifts(one(chain(_0=4, _1=6), head), 10.0, 12.0, net, net)
    assert sorted(shift.text for shift in shifts) == [
        "/0/Conv (Conv): 4 to 5 ms", "/1/Conv (Conv): 6 to 7 ms",
    ]  # fmt: skip


def test_a_layer_is_compared_with_the_one_whose_place_it_took():
    base, head = (
        analyze(nn.Sequential(nn.Conv2d(3, 4, size, padding=size // 2)), (1, 3, 8, 8))
        for size in (1, 3)
    )
    (shift,) = layer_shifts(one(chain(_0=1), chain(_0=9)), 1.0, 9.0, base, head)
    assert shift.text == "/0/Conv (Conv): 1 to 9 ms"


def test_what_a_layer_takes_longer_has_an_interval_over_blocks():
    # Of 10 ms: a takes 3 ms, then 5 and 7 ms of 10: 2 and 4 ms longer, 3 on average. Their
    # deviation is sqrt(2), its error 1, and t(0.975; 1) = 12.7: -9.7 to +15.7 ms.
    base, heads = times(10, a=3, b=7), (times(10, a=5, b=5), times(10, a=7, b=3))
    blocks = [{"base": base, "head": head} for head in heads]
    a, b = sorted(layer_shifts(blocks, 10.0, 10.0), key=lambda shift: shift.name)
    assert (a.base_ms, a.head_ms, a.change_ms) == pytest.approx((3, 6, 3))
    assert (a.low_ms, a.high_ms) == pytest.approx((3 - 12.706, 3 + 12.706), abs=1e-3)
    assert (b.low_ms, b.high_ms) == pytest.approx((-a.high_ms, -a.low_ms))
    assert a.text == "a (Conv): 3 to 6 ms (-9.7 to +16 ms)"
    assert why_text([a], 3.0) == "no single layer stands out"


def test_as_many_layers_are_named_as_make_most_of_the_difference():
    shifts = [
        LayerShift("a", "Conv", 1.0, 3.0), LayerShift("b", "Add", 1.0, 1.9),
        LayerShift("c", "Conv", 1.0, 1.1),
    ]  # fmt: skip
    # 2.0 of 3.0 ms is less than 80 %, with b's 0.9 it is 97 %.
    assert why_text(shifts, 3.0) == (
        "2 layers make 97 % of it: a (Conv): 1 to 3 ms, b (Add): 1 to 1.9 ms"
    )
    assert why_text(shifts[:1], 2.0) == "one layer makes 100 % of it: a (Conv): 1 to 3 ms"
    assert why_text([LayerShift("a", "Conv", 3.0, 1.0)], 1.0) == "no single layer stands out"


def test_layers_that_became_faster_hide_no_slower_one():
    shifts = [
        LayerShift("old", "Conv", 1.0, None), LayerShift("new", "Conv", None, 0.8),
        LayerShift("newer", "Conv", None, 0.7),
    ]  # fmt: skip
    # 0.5 ms longer in all: 0.8 ms are 160 % of it.
    assert why_text(shifts, 0.5) == (
        "one layer makes 160 % of it: new (Conv): new, 0.8 ms (other layers became faster)"
    )
    assert why_text([LayerShift("a", "Add", 1.0, 1.01)], 2.0) == "no single layer stands out"


def test_a_confirmed_slowdown_names_its_layers(suite):
    slow = Machine({"base": 1e6, "head": 1.5e6})
    # The head's 1.5 ms: a as before, 0.6 ms; b 0.9 ms instead of 0.4.
    slow.layers = {"base": {"a": 0.6, "b": 0.4}, "head": {"a": 0.4, "b": 0.6}}
    null = Machine({"base": 1e6, "head": 1e6})
    report, _, steps = gate(suite, "set:engine=new", "set:engine=classic", machines=[slow, null])
    (verdict,) = report.verdicts
    assert verdict.verdict is Verdict.SLOWER
    assert verdict.sentence.endswith(
        "; one layer makes 100 % of it: b (Conv): 0.4 to 0.9 ms (+0.5 to +0.5 ms)"
    )
    assert [layer["name"] for layer in verdict.layers] == ["b", "a"]
    assert report.as_dict()["verdicts"][0]["layers"][0]["head_ms"] == pytest.approx(0.9)
    assert any("looking for the layers" in step for step in steps)


def real_arms(repository, **changes):
    loaded = load_suite(repository / "suites/gate.yaml", changes)
    case = quickest_case(loaded, (), LocalExecutor())
    request = load_request(case, loaded.measure)
    return lambda side: WorkerArm(ArmSpec(side, type(request)(**{**vars(request), "layers": True})))


@pytest.mark.slow
def test_real_workers_are_profiled_in_turns(repository):
    profiles = profiled_block(real_arms(repository))
    names = [[entry[0] for entry in profiles[side].entries] for side in ("base", "head")]
    assert names[0] == names[1]
    assert len(names[0]) > 3
