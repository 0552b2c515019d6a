"""Every figure's data, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.figures import choice, labels
from cspbench.figures.cases import (
    family,
    is_csp,
    labelled,
    measured,
    model_label,
    number,
    plain,
    setting_label,
    shorten,
)
from cspbench.figures.cumulative import cumulative_data
from cspbench.figures.fps_ap50 import fps_ap50_data, fps_class, pareto_front
from cspbench.figures.fps_bars import MAX_ROWS, draw_fps_bars, fps_bars_data
from cspbench.figures.gamma_fusion import gamma_fusion_data
from cspbench.figures.layer_bflops import layer_bflops_data, reduction
from cspbench.figures.layer_io import layer_io_data
from cspbench.figures.layer_times import layer_times_data
from cspbench.figures.layers_beside import beside_data
from cspbench.figures.liveness import liveness_data
from cspbench.figures.roofline import ceilings_of
from cspbench.figures.spec import NoDataError
from cspbench.figures.stages import stage_data
from cspbench.figures.top1_bflops import gains, top1_bflops_data
from cspbench.figures.waterfall import explained_pair, waterfall_data
from cspbench.literature.by_model import everything_of, published_values
from cspbench.models.stated import axis_value
from cspbench.views.frames import Run
from tests.report.runs import good, write_run


def layers(**models: list[float]) -> pd.DataFrame:
    """Layer rows with BFLOPs only."""
    rows = [
        {"model": model, "bflops": value} for model, values in models.items() for value in values
    ]
    return pd.DataFrame(rows)


def test_layer_bflops_keeps_order_and_drops_what_computes_nothing() -> None:
    big, small = layer_bflops_data(
        layers(small=[0.2, 0.0, 0.1], big=[0.1, 0.4], free=[0.0]), ["small", "big", "free"]
    )
    assert (big.model, big.bflops, big.largest) == ("big", (0.1, 0.4), 0.4)
    assert small.bflops == (0.2, 0.1)
    assert reduction(small, big) == pytest.approx(-0.5)  # 0.2 / 0.4 - 1


def test_the_papers_bottleneck_reduction() -> None:
    """Fig. 7: 0.199361 / 0.354419 - 1 = -43.75 %, printed -44 %."""
    pelee, csp = layer_bflops_data(layers(pelee=[0.354419, 0.1], csp=[0.199361]), ["csp", "pelee"])
    assert f"{reduction(csp, pelee):.0%}" == "-44%"


def test_fps_bars_turn_intervals_round() -> None:
    """Latency 10 ms (8 to 12.5) at batch 2 is 200 fps (160 to 250)."""
    case = "csppeleenet@224/opencv-cpu/b2/t1"
    row = {"id": case, "batch": 2, "fps": 200.0, "latency_ms_low": 8.0, "latency_ms_high": 12.5}
    skipped = {**row, "id": "peleenet@224/jetson/b2/t1", "fps": math.nan}
    [bar] = fps_bars_data(pd.DataFrame([row, skipped])).bars
    assert (bar.low, bar.high, bar.row, bar.csp) == (160.0, 250.0, "opencv-cpu, batch 2", True)


def test_one_network_on_many_engines_is_one_panel_fastest_first() -> None:
    engines = ["opencv-cpu/b1/t1", "torch-cpu/b1/t1", "onnxruntime/b1/t2", "openvino/b1/t1"]
    rows = [
        {"id": f"peleenet@224/{engine}", "batch": 1, "fps": fps,
         "latency_ms_low": math.nan, "latency_ms_high": math.nan}
        for engine, fps in zip(engines, (40.0, 1.0, 90.0, 80.0), strict=True)
    ]  # fmt: skip
    data = fps_bars_data(pd.DataFrame(rows))
    assert data.panels == ("peleenet@224",)
    assert data.rows == ("onnxruntime, 2 threads", "openvino", "opencv-cpu", "torch-cpu")
    assert data.left_out == 0
    [axes] = draw_fps_bars(data).axes
    assert axes.get_xscale() == "log", "90 is more than 30 times 1"


def test_fps_bars_without_interval_and_with_too_many_networks() -> None:
    rows = [
        {"id": f"m{i}@224/opencv-cpu/b1/t1", "batch": 1, "fps": float(i + 1),
         "latency_ms_low": math.nan, "latency_ms_high": math.nan}
        for i in range(MAX_ROWS + 3)
    ]  # fmt: skip
    data = fps_bars_data(pd.DataFrame(rows))
    assert data.rows[0] == f"m{MAX_ROWS + 2}@224", "the fastest first"
    assert data.left_out == 3
    assert data.bars[0].low is None


def test_fps_ap50_joins_by_model_and_input() -> None:
    """Latency 20 ms (16 to 25) is 50 fps (40 to 62.5)."""
    latency = {"batch": 1, "latency_ms_low": 16.0, "latency_ms_high": 25.0}
    rows = [
        {"id": "csppeleenet-ref+prn@320/opencv-cpu/b1/t1", "fps": 50.0, **latency},
        {"id": "csppeleenet-ref+prn@416/opencv-cpu/b1/t1", "fps": 30.0, **latency},  # no AP50
    ]
    [point] = fps_ap50_data(pd.DataFrame(rows), published_values("ap50_pct"))
    # Table 5 of the paper: CSPPeleeNet Ref.-PRN at 320 has AP50 38.5.
    assert (point.ap50, point.fps, point.family) == (38.5, 50.0, "peleenet")
    assert (point.low, point.high) == (40.0, 62.5)
    assert point.label == "csppeleenet-ref+prn"


def test_pareto_front_by_hand() -> None:
    points = [(10.0, 40.0), (20.0, 38.0), (15.0, 37.0), (20.0, 36.0), (5.0, 40.0)]
    assert pareto_front(points) == [(20.0, 38.0), (10.0, 40.0)]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1))
def test_pareto_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    expected = {
        one
        for one in points
        if not any(o != one and o[0] >= one[0] and o[1] >= one[1] for o in points)
    }
    assert set(pareto_front([(float(a), float(b)) for a, b in points])) == expected


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(29.9, "below 30"), (30, "30 to 100"), (100, "100 to 200"), (200, "200 and above")],
)
def test_fps_classes(fps: float, expected: str) -> None:
    assert fps_class(fps) == expected


def test_published_numbers_by_model() -> None:
    assert published_values("ap50_pct")["yolov3-tiny@416"] == 33.1
    assert published_values("top1_pct")["peleenet@224"] == 70.7
    devices = {e.device for e in everything_of("csppeleenet-ref+prn", 320) if e.metric == "fps"}
    assert {"GTX 1080 Ti", "Jetson TX2"} <= devices


def test_top1_prefers_computed_bflops_and_pairs_csp_with_plain() -> None:
    top1 = {"peleenet@224": 70.7, "csppeleenet@224": 70.9, "speleenet@224": 69.6, "x@1": 1.0}
    published = {"csppeleenet@224": 0.888, "speleenet@224": 0.904, "peleenet@224": 1.017}
    points = top1_bflops_data({"peleenet@224": 1.0166}, published, top1)
    by_name = {point.name: point for point in points}
    assert (by_name["peleenet"].bflops, by_name["peleenet"].computed) == (1.0166, True)
    assert (by_name["csppeleenet"].bflops, by_name["csppeleenet"].computed) == (0.888, False)
    assert "x" not in by_name, "families that the runs do not hold stay out"
    assert [(a.name, b.name) for a, b in gains(points)] == [("peleenet", "csppeleenet")]


def test_gamma_fusion_changes_are_against_the_plain_network(demo: Run) -> None:
    cases = demo.cases[demo.cases["latency_ms"].notna()]
    variants = gamma_fusion_data(cases, {"peleenet@224": 70.7})
    by_label = {(v.label, v.setting): v for v in variants}
    # MACs 800, 600 and 600: BFLOPs 1600, 1200 and 1200, so 0 and -25 %.
    assert by_label["peleenet", "opencv-cpu"].change == 0
    assert by_label["fusion csp, γ 0.5", "torch-cpu"].change == pytest.approx(-0.25)
    assert by_label["fusion csp, γ 0.25", "opencv-cpu"].change == pytest.approx(-0.25)
    assert by_label["peleenet", "opencv-cpu"].top1 == 70.7
    assert len(variants) == 6


def test_gamma_fusion_needs_a_plain_network(demo: Run) -> None:
    cases = demo.cases[demo.cases["id"].str.startswith("csp") & demo.cases["bflops"].notna()]
    assert gamma_fusion_data(cases[cases["latency_ms"].notna()], {}) == []


def test_cumulative_sums_macs_in_order(demo: Run) -> None:
    [pelee] = cumulative_data(demo.layers, ["peleenet@224"])
    assert pelee.gmacs == pytest.approx((1e-7, 5e-7, 7e-7, 8e-7))  # 100, 500, 700, 800 MACs
    assert pelee.position == (0.25, 0.5, 0.75, 1.0)


def test_stages_sum_their_layers(demo: Run) -> None:
    stages, [pelee, csp] = stage_data(demo.layers, ["peleenet@224", "csppeleenet@224"])
    assert stages == ("stages.0", "stages.1")
    assert pelee.values[0] == pytest.approx((500e-9, 300e-9))  # GMACs: 100 + 400, 200 + 100
    assert csp.values[2] == pytest.approx((2e-6, 2e-6))  # two parameters a stage


def test_liveness_names_the_first_peak(demo: Run) -> None:
    [csp] = liveness_data(demo.layers, ["csppeleenet@224"])
    assert csp.live_mib == pytest.approx(tuple(8 * n / 2**20 for n in (100, 200, 200, 100)))
    assert (csp.peak_at, csp.peak_name) == (1, "stages.0.conv1")


def test_layer_times_stand_under_macs_and_traffic(demo: Run) -> None:
    profile = layer_times_data(demo.layer_times)
    assert profile is not None
    assert profile.case == "peleenet@224/opencv-cpu/b1/t1"
    assert profile.time_ms == (1.0, 4.0, 2.0, 1.0)
    assert profile.gmacs == pytest.approx((1e-7, 4e-7, 2e-7, 1e-7))
    assert profile.residual_ms == 2.0


def test_layer_io_counts_inputs_and_outputs(demo: Run) -> None:
    [pelee] = layer_io_data(demo.layers, ["peleenet@224"])
    assert pelee.inputs == pelee.outputs == pytest.approx((1e-4, 4e-4, 2e-4, 1e-4))
    assert pelee.total == pytest.approx(16e-4)  # 2 x 800 elements


def test_compared_models_share_family_and_input() -> None:
    ids = ["yolov3-tiny@416", "csppeleenet[gamma=0.25]@224", "peleenet@224", "csppeleenet@224"]
    assert choice.choose_models(ids, 2) == ["peleenet@224", "csppeleenet@224"]
    assert choice.choose_models(["odd id@@"], 2) == ["odd id@@"]


def test_a_network_and_its_partial_form_are_what_matters() -> None:
    """Two partial networks of one family and input are as many, and come first."""
    edge = ["csppeleenet-ref+prn-3l@320", "csppeleenet-ref+prn@320", "csppeleenet+prn@416",
            "yolov3-tiny@416", "peleenet+efm@416", "peleenet+prn@416"]  # fmt: skip
    assert choice.choose_models(edge, 3) == [
        "peleenet+prn@416", "csppeleenet+prn@416", "peleenet+efm@416",
    ]  # fmt: skip


def test_analyses_of_another_version_count_as_none(tmp_path: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1"
    run = write_run(tmp_path, {case: good(case, 1.0)},
                    analyses={"peleenet@224": {"version": -1, "totals": {}}})  # fmt: skip
    assert run.analyses == {}
    with pytest.raises(NoDataError, match="no model of these runs was analysed"):
        choice.compared_models([run], 3)


def test_a_suite_names_networks(tmp_path: Path) -> None:
    case = '"onnx:nets/a.onnx"@224/opencv-cpu/b1/t1'
    run = write_run(tmp_path, {case: good(case, 1.0)},
                    suite={"labels": {'"onnx:nets/a.onnx"@224': "June \x1b[31m"}})  # fmt: skip
    assert model_label(case) == "a.onnx@224"
    with labelled([run]):
        assert model_label(case) == "June \\u001b[31m"
        assert model_label("peleenet@224/opencv-cpu/b1/t1") == "peleenet@224"
    assert model_label(case) == "a.onnx@224"


def test_labels() -> None:
    case = "csppeleenet[gamma=0.25]+prn@320x416/opencv-cpu[engine=new]/b8/t2"
    assert model_label(case) == "csppeleenet[gamma=0.25]+prn@320x416"
    assert setting_label(case) == "opencv-cpu[engine=new], batch 8, 2 threads"
    assert family("csppeleenet-ref") == "peleenet"
    assert family("darknet:my.cfg") == "darknet:my.cfg"
    assert is_csp("resnet50[csp.fusion=last]@224/opencv-cpu/b1/t1")
    assert not is_csp("peleenet@224/opencv-cpu/b1/t1")
    assert [number(v) for v in (0.01234, 4.567, 78.94, 1234.5)] == [
        "0.0123",
        "4.57",
        "78.9",
        "1234",
    ]


@given(st.text())
def test_plain_text_can_be_written_and_hides_nothing(text: str) -> None:
    shown = plain(text)
    assert shown.encode("utf-8").decode() == shown
    assert not any(ord(c) < 32 or 0x202A <= ord(c) <= 0x202E for c in shown)


@given(st.text(min_size=1, max_size=200), st.integers(5, 60))
def test_shortened_text_keeps_both_ends(text: str, length: int) -> None:
    shown = shorten(text, length)
    assert len(shown) <= max(length, len(text) if len(text) <= length else 0)
    assert shown[0] == text[0]
    assert shown[-1] == text[-1]


def box_at(corner: tuple[float, float] | None, width: float) -> labels.Box:
    assert corner is not None
    left, bottom = corner
    return labels.Box(left, bottom, left + width, bottom + 10.5)


def test_a_label_keeps_off_the_point_to_its_right() -> None:
    frame = labels.Box(0, 0, 300, 100)
    corner, _ = labels.place([(100, 50), (120, 50)], [60, 60], frame)
    box = box_at(corner, 60)
    assert box.overlap(np.array([[115.0, 45.0, 125.0, 55.0]])) == 0


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 100)), min_size=1, max_size=30))
def test_labels_are_near_their_points_and_do_not_cover_one_another(
    points: list[tuple[float, float]],
) -> None:
    placed = labels.place(points, [40.0] * len(points), labels.Box(0, 0, 300, 100))
    assert len(placed) == len(points)
    assert placed[0] is not None
    boxes = []
    for (x, y), corner in zip(points, placed, strict=True):
        if corner is None:  # left out: it would cover others
            continue
        box = box_at(corner, 40)
        assert box.distance(x, y) <= 81
        assert box.overlap(np.array([*boxes, (0, 0, 0, 0)])) <= 0.15 * 40 * 10.5 + 1e-6
        boxes.append(box)


def test_a_crowd_has_some_labels() -> None:
    """Forty points at one place: more than a few labels around it cannot be read."""
    placed = labels.place([(150, 50)] * 40, [100.0] * 40, labels.Box(0, 0, 300, 100))
    assert 5 <= sum(corner is not None for corner in placed) < 30


def test_points_along_a_line() -> None:
    assert labels.along([(0, 0), (4, 8)], 4) == [(1, 2), (2, 4), (3, 6)]


def test_ceilings_belong_to_the_device_and_threads_of_a_case(tmp_path: Path) -> None:
    known = {"gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 10.0}, "overhead_us": 1.0}
    run = write_run(tmp_path, {}, ceilings={"cpu/t1": known})
    where, found = ceilings_of(run, "peleenet@224/opencv-cpu/b1/t1")
    assert where == "cpu/t1"
    assert found is not None
    assert known.items() <= found.items()
    assert ceilings_of(run, "peleenet@224/opencv-cpu/b1/t2") == ("cpu/t2", None)
    assert ceilings_of(run, "peleenet@224/unheard-of/b1/t1") == ("", None)


def test_a_plain_network_without_bflops_is_no_base() -> None:
    bflops = {"peleenet": 0.0, "csppeleenet": 1.0, "csppeleenet[gamma=0.25]": 2.0}
    rows = [
        {"id": f"{model}@224/opencv-cpu/b1/t1", "bflops": value, "input": "224x224",
         "latency_ms": 1.0, "latency_ms_low": math.nan, "latency_ms_high": math.nan}
        for model, value in bflops.items()
    ]  # fmt: skip
    assert gamma_fusion_data(pd.DataFrame(rows), {}) == []


def test_a_case_of_several_runs_is_the_last_ones(tmp_path: Path) -> None:
    case, other = "peleenet@224/opencv-cpu/b1/t1", "peleenet@320/opencv-cpu/b1/t1"
    one = write_run(tmp_path, {case: good(case, 5.0), other: good(other, 9.0)}, name="one")
    two = write_run(tmp_path, {case: good(case, 7.0)}, name="two")
    frame = measured([one, two]).set_index("id")
    assert frame.loc[case, ["run", "fps"]].tolist() == ["two", pytest.approx(1000 / 7, rel=0.02)]
    assert frame.loc[other, "run"] == "one"
    assert {bar.case: bar.run for bar in fps_bars_data(measured([one, two])).bars} == {
        case: "two", other: "one",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "gamma", "fusion"),
    [
        ("csppeleenet", 0.5, "csp"),
        ("csppeleenet[fusion=last,gamma=0.25]", 0.25, "last"),
        ("resnet50[csp.fusion=first]", 0.5, "first"),
        ("resnet50", None, None),
        ('"some file.onnx"', None, None),
    ],
)
def test_axes_that_ids_leave_out(model: str, gamma: float | None, fusion: str | None) -> None:
    case = f"{model}@224/opencv-cpu/b1/t1"
    assert axis_value(case, "gamma") == gamma
    assert axis_value(case, "fusion") == fusion


def test_a_waterfall_leads_from_one_latency_to_the_other(together: Run) -> None:
    it = explained_pair(together)
    assert it is not None
    data = waterfall_data(it)
    assert (data.a, data.b) == tuple(record.case for record in together.records)
    assert data.b_ms == pytest.approx(data.a_ms * 10 / 12)  # bursts of 12 and 10 ms in each round
    assert data.a_ms + sum(step.change_ms for step in data.steps) == pytest.approx(data.b_ms)
    assert [step.residual for step in data.steps] == sorted(step.residual for step in data.steps)


def test_layers_stand_side_by_side(together: Run) -> None:
    it = explained_pair(together)
    assert it is not None
    rows = beside_data(it)
    # Of 10 ms the four convolutions take 1, 4, 2 and 1, two of each stage, in both networks.
    stages = {row.label.split(", ")[1]: row for row in rows}
    assert set(stages) == {"stages.0", "stages.1"}
    first = stages["stages.0"]
    assert first.ms == (
        pytest.approx(it.a.latency.estimate / 2),
        pytest.approx(it.b.latency.estimate / 2),
    )
    # 500 and 300 MACs in stages.0.
    assert first.gmacs == (pytest.approx(5e-7), pytest.approx(3e-7))
    assert first.gflops[0] == pytest.approx(2000 * 5e-7 / first.ms[0])
