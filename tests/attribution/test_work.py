"""Entries of a profile with what they do: by hand on five layers, and batches of a real network."""

import pytest

from cspbench.analysis.api import analyze_id
from cspbench.analysis.roofline import Peak
from cspbench.attribution.work import Family, at_batch, entries_of, plain_stage
from tests.views.test_layer_join import found, small

#: 1 ms for 2,000 FLOPs or 1,000 bytes; 1 us a dispatch.
PEAK = Peak(flops_per_s=2e6, bytes_per_s=1e6, overhead_s=1e-6)


def entries(rows, nodes=None):
    profile = found(rows) if nodes is None else found(rows, nodes=nodes)
    return entries_of(profile, small(), PEAK)


def test_a_fused_convolution_carries_its_norm_and_activation():
    [first, *_] = entries([["/a/conv/Conv", "Conv", 5_000, ["/a/conv/Conv"]]])
    # 256 outputs x 3 weights = 768 MACs, 1536 FLOPs: 0.768 ms.
    # Fused traffic: 768 in + 48 of weights + 1024 out = 1840 bytes: 1.84 ms.
    assert first.family is Family.ARITHMETIC
    assert (first.macs, first.traffic_bytes) == (768, 1840)
    assert first.compute_ms == pytest.approx(0.768)
    assert first.memory_ms == pytest.approx(1.84)
    assert first.waiting_ms == pytest.approx(1.84 - 0.768)
    assert (first.ms, first.overhead_ms, first.own_ms) == (0.005, 0.001, 0.004)


def test_an_activation_with_time_of_its_own_is_not_fused():
    rows = [
        ["/a/conv/Conv", "Conv", 5_000, ["/a/conv/Conv"]],
        ["/a/act/Relu", "Relu", 2_000, ["/a/act/Relu"]],
        ["/Add", "Add", 3_000, ["/Add"]],
    ]
    assert [(e.role, e.family) for e in entries(rows)] == [
        ("any size convolution", Family.ARITHMETIC),
        ("activation", Family.UNFUSED),
        ("addition", Family.MOVEMENT),
    ]


@pytest.mark.parametrize(
    ("op", "family"),
    [
        ("Concat2", Family.CONCATENATION),
        ("aten.cat.default", Family.CONCATENATION),
        ("TransformLayout", Family.LAYOUT),
        ("ReorderInput", Family.LAYOUT),
        ("aten.slice.Tensor", Family.LAYOUT),
        ("Pad2", Family.LAYOUT),
        ("SomethingElse", Family.UNKNOWN),
    ],
)
def test_entries_that_are_no_known_layer_go_by_their_operator(op, family):
    [one] = entries([["stranger", op, 1_000, []]])
    assert one.family is family
    assert one.layers == ()


def test_entries_without_time_are_left_out():
    assert entries([["/Add", "Add", 0, ["/Add"]]]) == []


def test_a_stranger_belongs_to_the_stage_before_it():
    network = small()
    for layer in network:
        layer.stage = "backbone.stages.1"
    rows = [["/Add", "Add", 3_000, ["/Add"]], ["x", "Concat", 1_000, []]]
    assert [one.stage for one in entries_of(found(rows), network, PEAK)] == ["stages.1"] * 2


def test_stages_without_what_holds_them():
    assert plain_stage("backbone.stages.1") == "stages.1"
    assert plain_stage("stages.1") == "stages.1"
    assert plain_stage("backbone") == "backbone"
    assert plain_stage("") == ""


def test_a_batch_is_what_an_analysis_of_that_batch_says():
    one, three = (analyze_id("csppeleenet@64", batch=batch).layers for batch in (1, 3))
    grown = at_batch(one, 3)
    for mine, theirs in zip(grown, three, strict=True):
        assert mine["macs"] == theirs["macs"]
        assert mine["traffic_bytes_fused"] == theirs["traffic_bytes_fused"]
        assert mine.output_shapes == theirs.output_shapes
    assert at_batch(one, 1) == one
