"""Two cases as their blocks show them: by hand, on networks of two and three layers."""

from dataclasses import replace

import pytest

from cspbench.analysis.layer import Layer
from cspbench.analysis.roofline import Peak
from cspbench.artifacts.spec import Node
from cspbench.attribution.blocks import BlockSides, Ground, _repeats
from cspbench.attribution.causes import BETWEEN, ExplanationVerdict, attribute
from cspbench.attribution.text import sentences
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.replay import ReplayResult
from cspbench.jobs.time import Turns
from cspbench.measure.statistics import Interval
from cspbench.store.ratios import ProfiledArm, SharedBlock
from tests.attribution.sides import parts_of

MS = 1_000_000
#: 1 GFLOP/s, no limit of bandwidth, no dispatch: an MFLOP takes 1 ms.
PEAK = Peak(1e9, 1e15, 0.0)


def conv(index, mflop, name):
    """A 1x1 convolution of so many MFLOPs."""
    made = Layer(
        index, name, "conv2d", "conv", inputs=(index,), outputs=(index + 1,),
        weight_shape=(8, 4, 1, 1), kernel=(1, 1), groups=1, output_shapes=((1, 8, 16, 16),),
        output_elements=2048, stage="stages.0",
    )  # fmt: skip
    made.values.update(flops=mflop * 10**6, macs=mflop * 500_000, traffic_bytes_fused=0)
    return made


def ground(case, latency_ms, mflops):
    layers = tuple(conv(number, mflop, f"l{number}") for number, mflop in enumerate(mflops))
    return Ground(case, Interval(latency_ms, None, None), 1, layers, PEAK)


def times(entry_ms, total_ms):
    """A profile of one convolution after the other, named as its layer."""
    names = [f"/l{number}/Conv" for number in range(len(entry_ms))]
    return LayerTimes(
        entries=[(name, "Conv", round(ms * MS), [name])
                 for name, ms in zip(names, entry_ms, strict=True)],
        nodes=[(name, "Conv", [], []) for name in names],
        total_ns=round(total_ms * MS),
        runs=10,
    )  # fmt: skip


def block(ratio, a, b, **more):
    return SharedBlock(ratio, ProfiledArm(a, 2.0), ProfiledArm(b, 1.5), **more)


A, B = "a@64/onnxruntime/b1/t1", "b@64/onnxruntime/b1/t1"


def test_shares_of_a_profile_are_scaled_to_the_plain_latency():
    # With the profiler an inference of a takes 20 ms: layers of 10 and 8, 2 between them. The plain
    # one takes 10 ms: 5, 4 and 1. b takes 1.5 times as long as a: 15 ms, a third each of 5.
    one = block(1.5, times([10, 8], 20), times([6, 6, 6], 18))
    sides = BlockSides(
        ground(A, 10.0, [5, 4]), ground(B, 99.0, [5, 5, 5]), [one], Interval(1.5, None, None)
    )
    a, b = sides.mean()
    assert [entry.ms for entry in a.entries] == pytest.approx([5, 4])
    assert [entry.ms for entry in b.entries] == pytest.approx([5, 5, 5])
    assert (a.outside_ms, b.outside_ms) == (pytest.approx(1.0), pytest.approx(0.0))
    assert (a.profiled, b.profiled) == (2.0, 1.5)
    assert (a.latency.estimate, b.latency.estimate) == (10.0, pytest.approx(15.0))


def test_steps_from_layer_to_layer_are_overhead_and_no_residual():
    # Of 10 ms a spends 8 in two layers and 1 from one to the other, b of 15 ms 9 in three and 4.
    a, b = (
        replace(times([4, 4], 10), between_ns=1 * MS),
        replace(times([3, 3, 3], 15), between_ns=4 * MS),
    )
    sides = BlockSides(
        ground(A, 10.0, [4, 4]), ground(B, 9.0, [3, 3, 3]), [block(1.5, a, b)] * 2,
        Interval(1.5, 1.4, 1.6),
    )  # fmt: skip
    it = attribute(*sides.mean(), ratio=sides.ratio, blocks=sides.each)
    parts = {part.key: (part.a_ms, part.b_ms) for part in it.parts}
    assert parts["overhead"] == pytest.approx((1, 4))
    assert parts["outside"] == pytest.approx((1, 2))  # 10 - 8 - 1 and 15 - 9 - 4
    assert sum(part.difference_ms for part in it.parts) == pytest.approx(5)
    steps = next(group for group in it.groups if group.role == BETWEEN)
    assert (steps.difference_ms, steps.main_cause) == (pytest.approx(3), "overhead")


def explained(blocks, ratio):
    sides = BlockSides(ground(A, 10.0, [5, 5]), ground(B, 9.0, [5, 5, 5]), blocks, ratio)
    return attribute(*sides.mean(), ratio=ratio, blocks=sides.each)


def test_every_part_has_the_interval_over_the_blocks():
    # a: 2 x 5 ms for 2 x 5 MFLOPs. b has a third layer: +4 ms in the first block, +6 in the second,
    # all of it arithmetic, because both run all layers of a block at one rate in each network.
    blocks = [
        block(1.4, times([5, 5], 10), times([14 / 3] * 3, 14)),
        block(1.6, times([5, 5], 10), times([16 / 3] * 3, 16)),
    ]
    it = explained(blocks, Interval(1.5, 1.45, 1.55))
    assert it.difference_ms == pytest.approx(5.0)
    assert (it.low, it.high) == (pytest.approx(4.5), pytest.approx(5.5))
    (compute,) = [part for part in it.parts if part.key == "compute"]
    # First block: price 24 / 25 for 25 MFLOPs in all, 5 more in b: 4.8. Second: 26 / 25 x 5 = 5.2.
    # Student with 1 degree of freedom: 5 -+ 12.706 x 0.2828 / sqrt(2) = 5 -+ 2.541.
    assert compute.difference_ms == pytest.approx(5.0)
    assert (compute.low, compute.high) == (
        pytest.approx(2.459, abs=1e-3),
        pytest.approx(7.541, abs=1e-3),
    )
    assert it.blocks == 2


def replay(ms_by_layer, total_ms, members):
    layers = LayerTimes(
        entries=[(f"key{number}", "", round(ms * MS), members[number])
                 for number, ms in enumerate(ms_by_layer)],
        nodes=[], total_ns=round(total_ms * MS), runs=10,
    )  # fmt: skip
    return ReplayResult([A, B], [MS], Turns("0", [1]), layers)


def test_what_a_layer_takes_alone_is_its_shape_and_the_rest_its_context():
    # A pass over the two distinct layers takes 0.9 of an inference of a (10 ms): 9 ms, of which
    # the first takes 5 and the second 4. a is the first twice; b once, and the second. In the
    # networks they take 5 each and 5 and 7: the second takes 3 more beside its neighbours.
    alone = replay([50, 40], 90, [["0:/l0/Conv", "0:/l1/Conv", "1:/l0/Conv"], ["1:/l1/Conv"]])
    blocks = [
        block(1.2, times([5, 5], 10), times([5, 7], 12), replay=alone, replay_ratio=0.9)
        for _ in range(2)
    ]
    # The second has 1 MFLOP, the first 5. Alone 5 + 5 + 5 + 4 ms for 16 MFLOPs: price 19 / 16.
    sides = BlockSides(
        ground(A, 10.0, [5, 5]), ground(B, 9.0, [5, 1]), blocks, Interval(1.2, 1.19, 1.21)
    )
    a, b = sides.mean()
    assert [entry.replay_ms for entry in a.entries] == pytest.approx([5, 5])
    assert [entry.replay_ms for entry in b.entries] == pytest.approx([5, 4])
    it = attribute(a, b, ratio=sides.ratio, blocks=sides.each)
    # Arithmetic: (6 - 10) x 19 / 16 = -4.75. Shape: alone b takes 9 and a 10, less -4.75: +3.75.
    assert parts_of(it) == {"compute": -4.75, "size": 3.75, "context": 3.0}
    assert it.verdict is ExplanationVerdict.EXPLAINED
    # The second layer: 1 MFLOP in 4 ms instead of 19 / 16.
    told = "1x1 convolution 4 to 8 channels at 16x16 in B: 0.250 instead of 0.842 GFLOP/s"
    assert told in " ".join(sentences(it))
    # Seen from b: its second layer is the slow one still, and now it is A's.
    back = attribute(b, a, ratio=Interval(1 / 1.2, 1 / 1.21, 1 / 1.19))
    assert told.replace("in B", "in A") in " ".join(sentences(back))


def chained(*ops):
    """Nodes that feed each other in this order, as a profile holds them."""
    return [(f"n{number}", op, [number - 1] if number else [], [])
            for number, op in enumerate(ops)]  # fmt: skip


@pytest.mark.parametrize(
    ("ops", "layers"),
    [
        (["Conv", "Relu"], [[0, 1]]),
        (["Conv", "Relu", "Conv", "Relu"], [[0, 1], [2, 3]]),
        (["Conv", "Conv", "Conv"], [[0], [1], [2]]),
        (["Conv", "Sigmoid", "Mul"], [[0, 1, 2]]),
        ([], []),
    ],
)
def test_equal_layers_that_feed_each_other_are_as_many(ops, layers):
    """Six equal convolutions in a row were once taken for one."""
    stored = chained(*ops)
    nodes = [Node(name, op, tuple(feeds), ()) for name, op, feeds, _ in stored]
    names = [name for name, *_ in stored]
    assert _repeats(names, nodes, {name: number for number, name in enumerate(names)}) == layers


def test_layers_that_do_not_feed_each_other_are_apart():
    nodes = [Node("a", "Conv"), Node("a2", "Relu", (0,)), Node("b", "Conv"),
             Node("b2", "Relu", (2,))]  # fmt: skip
    numbers = {node.name: number for number, node in enumerate(nodes)}
    assert _repeats(["a", "a2", "b", "b2"], nodes, numbers) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("replayed", [True, False])
def test_page_faults_are_a_cause_of_their_own(replayed):
    # b has 600 faults an inference, which take a fifth of its 10 ms; a has 3.
    quiet, faulty = times([8], 8), times([10], 10)
    one = SharedBlock(
        1.25, ProfiledArm(quiet, 1.0, 0.1, 3.0), ProfiledArm(faulty, 1.0, 0.2, 600.0),
        replay([8], 8, [["0:/l0/Conv", "1:/l0/Conv"]]) if replayed else None, 1.0,
    )  # fmt: skip
    sides = BlockSides(ground(A, 8.0, [8]), ground(B, 9.0, [8]), [one], Interval(1.25, 1.2, 1.3))
    it = attribute(*sides.mean(), ratio=sides.ratio, blocks=sides.each)
    # Alone the layer takes 8 ms in both; of the 2 ms more in b all are the kernel's. Without a
    # replay they would be another rate.
    assert parts_of(it) == {"faults": 2.0}


def test_an_engine_that_splits_a_layer_shares_out_its_replay():
    # The layer takes 6 ms alone; in the network its two entries take 6 and 2.
    from cspbench.attribution.work import ReplayedLayer, replay_ms
    from cspbench.views.layer_join import LayerRow

    layers = [conv(0, 1, "l0"), conv(1, 1, "l1")]
    rows = [LayerRow("x", "Conv", 6, (0,)), LayerRow("y", "Relu", 2, (1,)), LayerRow("z", "", 1)]
    found = replay_ms(rows, layers, [ReplayedLayer(6.0, frozenset({0, 1}))])
    assert found == [pytest.approx(4.5), pytest.approx(1.5), None]
