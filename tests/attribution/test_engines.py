"""Two engines on one network: layers side by side, by hand on a small network and with workers."""

import json
import math
import re
from dataclasses import replace

import pytest

import cspbench
from cspbench.attribution import LayerComparison, explain_measured, pair
from cspbench.attribution.engines import (
    OUTSIDE,
    UNJOINED,
    ComparedSide,
    as_dict,
    compare_engines,
    compare_engines_apart,
    rows,
    same_network,
    sentences,
)
from cspbench.backends.spec import BACKENDS
from cspbench.errors import InputError
from cspbench.measure.statistics import Interval
from cspbench.report.page import render
from cspbench.report.rows import case_rows
from cspbench.report.sections.engines import engine_pairs
from cspbench.store.ratios import ProfiledArm, SharedBlock
from tests.attribution.stored import CEILINGS, PLAIN
from tests.report.runs import analysis, good, profile_launch, write_run
from tests.views.test_layer_join import found, small

FUSING, PLAINLY = "m@8/onnxruntime/b1/t1", "m@8/opencv-cpu/b1/t1"
#: One entry for the first three layers, one for the next two, and the addition.
OF_A = [["/a/conv/Conv", "Conv", 3_000, ["/a/conv/Conv"]],
        ["/b/conv/Conv", "Conv", 4_000, ["/b/conv/Conv"]],
        ["/Add", "Add", 1_000, ["/Add"]]]  # fmt: skip
#: Activations apart, and an entry that is no layer of the network.
OF_B = [["/a/conv/Conv", "Conv", 2_000, ["/a/conv/Conv"]],
        ["/a/act/Relu", "Relu", 3_000, ["/a/act/Relu"]],
        ["/b/conv/Conv", "Conv", 4_000, ["/b/conv/Conv"]],
        ["/b/act/Relu", "Relu", 500, ["/b/act/Relu"]],
        ["/Add", "Add", 500, ["/Add"]], ["reorder", "Reorder", 2_000, []]]  # fmt: skip


def side(case, ms):
    place = f"on {case.split('/')[1]}"
    return ComparedSide(case, Interval(ms, ms - 0.1, ms + 0.1), small(), place)


def profiles(total_a=10_000, total_b=15_000):
    return found(OF_A, total_ns=total_a), found(OF_B, total_ns=total_b)


def test_entries_of_the_same_layers_are_one_row():
    # A: 10 us profiled are 10 ms, so every us of an entry is 1 ms; B: 15 us are 15 ms.
    it = compare_engines_apart(side(FUSING, 10.0), side(PLAINLY, 15.0), profiles())
    assert [(pair.role, pair.a_ms, pair.b_ms, len(pair.b_entries)) for pair in it.pairs] == [
        ("any size convolution", 3.0, 5.0, 2),  # conv, norm and activation: 2 + 3
        (UNJOINED, 0.0, 2.0, 1),
        (OUTSIDE, 2.0, 3.0, 0),  # 10 - 8 and 15 - 12
        ("any size convolution", 4.0, 4.5, 2),
        ("addition", 1.0, 0.5, 1),
    ]
    assert math.isclose(sum(pair.difference_ms for pair in it.pairs), it.difference_ms)
    assert (it.difference_ms, it.verdict) == (5.0, None)


def test_the_sentences_name_layers_and_fusion_and_no_causes():
    it = compare_engines_apart(side(FUSING, 10.0), side(PLAINLY, 15.0), profiles())
    head, layers, fusion, causes = sentences(it)
    assert head.startswith("B is slower by 5.00 ms (+50 %; +4.86 to +5.14 ms with 95 % confidence)")
    assert head.endswith("m@8 takes 10.0 ms on onnxruntime, 15.0 ms on opencv-cpu.")
    assert layers.startswith("By layer: +2.00 ms any size convolution 3 to 4 channels at 8x8;")
    # Both convolutions of A hold their activations: 2 entries are 4 of B, 5 + 4.5 ms.
    assert fusion == (
        "A fuses what B runs apart: 2 of its entries do the work of 4 of B, which take 9.50 ms."
    )
    assert causes == (
        "Layer times are of one launch each, scaled to the latency; two engines share no prices, "
        "so no causes are named. The two latencies are from separate launches, so their difference "
        "is weaker than one from bursts in turn."
    )
    whole = as_dict(it)
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["layers"][0]["b_entries"] == ["/a/conv/Conv", "/a/act/Relu"]


def test_blocks_give_every_row_an_interval():
    # The ratio is 1.4 and 1.6 in the two blocks: B takes 14 and 16 ms, of which its first row has a
    # third. So the row's difference is 14/3 - 3 and 16/3 - 3: 2 ms, Student with one degree of
    # freedom: 12.706 x (2/3 / sqrt 2) / sqrt 2 = 4.235.
    of_a, of_b = profiles()
    blocks = [SharedBlock(ratio, ProfiledArm(of_a, 1.1), ProfiledArm(of_b, 1.2))
              for ratio in (1.4, 1.6)]  # fmt: skip
    ratio = Interval(1.5, 1.3, 1.7)
    it = compare_engines(side(FUSING, 10.0), side(PLAINLY, 15.0), blocks, ratio)
    assert (it.blocks, it.low, it.high) == (2, pytest.approx(3.0), pytest.approx(7.0))
    first = it.pairs[0]
    assert first.difference_ms == pytest.approx(2.0)
    assert (first.low, first.high) == (pytest.approx(2 - 4.235, abs=1e-3),
                                       pytest.approx(2 + 4.235, abs=1e-3))  # fmt: skip
    assert sum(row["difference_ms"] for row in rows(it)) == pytest.approx(5.0)
    assert "from 2 blocks" in sentences(it)[-1]


def test_a_difference_within_its_interval_is_none():
    wide = Interval(1.0, 0.9, 1.1)
    of_a, of_b = profiles()
    block = SharedBlock(1.0, ProfiledArm(of_a, 1.1), ProfiledArm(of_b, 1.2))
    it = compare_engines(side(FUSING, 10.0), side(PLAINLY, 10.0), [block, block], wide)
    assert sentences(it)[0] == (
        "A and B are indistinguishable: m@8 takes 10.0 ms on onnxruntime, 10.0 ms on opencv-cpu."
    )


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        ("m@8/onnxruntime/b1/t1", "m@8/opencv-cpu/b1/t1", True),
        ("m@8/opencv-cpu/b1/t1", "m@8/opencv-cpu[engine=classic]/b1/t1", True),
        ("m@8/opencv-cpu/b1/t1", "n@8/openvino/b1/t1", False),
        ("m@8/opencv-cpu/b1/t1", "m@8/openvino/b8/t1", False),
        # The allocator's page faults are a cause; the engine is the same.
        ("m@8/opencv-cpu/b1/t1", "m@8/opencv-cpu[allocator=retained]/b1/t1", False),
    ],
)
def test_what_two_engines_on_one_network_are(a, b, answer):
    assert same_network(a, b) is answer


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run of one network on two engines with layer times of a launch each, without ceilings."""
    cases = {}
    for backend, ms in (("opencv-cpu", 10.0), ("openvino", 8.0)):
        case = f"{PLAIN}/{backend}/b1/t1"
        cases[case] = [*good(case, ms), profile_launch(case)]
    million = 1_000_000
    analyses = {PLAIN: analysis(PLAIN, [million] * 4)}
    return write_run(tmp_path_factory.mktemp("results"), cases, analyses=analyses)


def test_a_stored_run_needs_no_ceilings_for_it(stored):
    assert CEILINGS  # two networks would need them
    it = cspbench.explain("peleenet*/opencv*", "peleenet*/openvino*", stored)
    assert isinstance(it, LayerComparison)
    assert it.difference_ms == pytest.approx(-2.0, rel=0.1)


def test_the_command_line_shows_layers(stored, monkeypatch, capsys):
    from cspbench.cli.main import main

    monkeypatch.chdir(stored.path.parent)
    arguments = ["explain", f"{PLAIN}/opencv*", f"{PLAIN}/openvino*", "--run", str(stored.path)]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "peleenet@224 takes" in printed
    assert "1x1 convolution" in printed
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--by", "causes"])
    assert end.value.code == 2
    assert "is compared by layers only" in capsys.readouterr().err


@pytest.mark.slow
def test_two_real_engines_take_turns(tmp_path, monkeypatch):
    reason = BACKENDS.get("onnxruntime").available()
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    plan = pair.plan_pair("peleenet@64/opencv-cpu/b1/t1", "peleenet@64/onnxruntime/b1/t1", rounds=2)
    two_blocks = replace(plan.suite.measure, target_ratio=0.99)
    plan = replace(plan, suite=replace(plan.suite, measure=two_blocks))
    run = pair.measure_plan(plan, tmp_path / "results")
    a, b = (record.case for record in run.records)
    it = explain_measured(run, a, b)
    assert isinstance(it, LayerComparison)
    assert it.blocks >= 2
    assert sum(pair.difference_ms for pair in it.pairs) == pytest.approx(it.difference_ms)
    # Convolutions of both are the network's own.
    both = [pair for pair in it.pairs if pair.layers and pair.a_ms > 0 and pair.b_ms > 0]
    assert len(both) > 50
    with pytest.raises(InputError, match="the same case"):
        explain_measured(run, a, a)


def test_the_report_puts_the_slower_engine_beside_the_fastest(stored):
    """OpenVINO takes 8 ms, OpenCV 10, of equal profiles: each layer takes a quarter more."""
    [found] = re.findall(r'<section id="engines".*?</section>', render([stored]), re.DOTALL)
    assert "opencv-cpu against openvino" in found
    assert "B is slower by 2.0" in found
    assert "in run" not in found
    [pair], left_out = engine_pairs([stored], case_rows([stored]))
    assert left_out == 0
    # 4 of the profile's 10 ms: 3.2 and 4.0 ms, the largest difference.
    largest = pair.layers[0]
    assert (float(largest.a), float(largest.b)) == (
        pytest.approx(3.2, rel=0.02), pytest.approx(4.0, rel=0.02),
    )  # fmt: skip
    assert largest.name.startswith("1x1 convolution")
    assert f"--run {stored.name} --by layers" in found
