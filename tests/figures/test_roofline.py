"""The roofline of a synthetic run, by hand."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

from cspbench.analysis import Analysis
from cspbench.figures.roofline import draw_roofline, layer_points, point_of, roofline_data
from cspbench.figures.spec import FIGURES, NoDataError
from cspbench.views.frames import Run
from tests.report.runs import analysis, good, write_run

#: 100 GFLOP/s, 10 GB/s, 10 us an operator: the ridge is at 10 FLOP/byte.
CEILINGS = {
    "gflops": {"fp32": 100.0, "bf16": 150.0},
    "bandwidth_gbs": {"copy": 9.0, "read": 8.0, "triad": 10.0},
    "cache_bandwidth_gbs": {"L2": 40.0}, "overhead_us": 10.0, "working_set_bytes": 2**29,
    "threads": 1, "name": None,
}  # fmt: skip
MODEL = "peleenet@224"
# Two 1x1 convolutions of one channel: 1e6 and 3e6 MACs, as many inputs and outputs of 4 bytes.
STORED = analysis(MODEL, [1_000_000, 3_000_000])


def ready(stored: dict) -> Analysis:
    return Analysis.from_json(json.dumps(stored))


def a_run(folder: Path, ceilings: dict | None, batch: int = 1) -> Run:
    case = f"{MODEL}/opencv-cpu/b{batch}/t1"
    noted = {"cpu/t1": ceilings} if ceilings else {}
    return write_run(folder, {case: good(case, 8.0)}, analyses={MODEL: STORED}, ceilings=noted)


def test_a_case_stands_at_its_rate_and_intensity() -> None:
    point = point_of(f"{MODEL}/opencv-cpu/b1/t1", 1, 8.0, STORED["totals"])
    assert point is not None
    # 2 x 4e6 MACs in 8 ms
    assert point.gflops == pytest.approx(1.0)
    # 8e6 FLOPs over 8 x 4e6 bytes in and out, and two weights of 4 bytes
    assert point.intensity == pytest.approx(8e6 / (32e6 + 8))
    assert point.setting == "opencv-cpu"


def test_layers_stand_under_the_slope_by_their_overhead() -> None:
    first, second = layer_points(ready(STORED), CEILINGS)
    # 8e6 bytes at 10 GB/s are 0.8 ms, and 0.01 ms of overhead: 2e6 FLOPs in 0.81 ms
    assert first.gflops == pytest.approx(2e6 / 0.81e-3 / 1e9, rel=1e-5)
    # 24e6 bytes: 2.4 ms and 0.01 ms
    assert second.gflops == pytest.approx(6e6 / 2.41e-3 / 1e9, rel=1e-5)


def test_a_panel_needs_ceilings_and_a_case_of_batch_1(tmp_path: Path) -> None:
    [panel] = roofline_data([a_run(tmp_path / "a", CEILINGS)])
    assert (panel.roof.device, panel.model, len(panel.layers)) == ("cpu/t1", MODEL, 2)
    [case] = panel.cases
    assert case.gflops == pytest.approx(1.0, rel=0.1)
    assert roofline_data([a_run(tmp_path / "b", CEILINGS, batch=2)]) == []


def test_without_ceilings_it_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="cspbench ceilings"):
        FIGURES.get("roofline").draw([a_run(tmp_path / "a", None)])
    with pytest.raises(NoDataError, match="batch 1"):
        FIGURES.get("roofline").draw([a_run(tmp_path / "b", CEILINGS, batch=2)])


def test_predicted_measured_and_ceilings_look_different(tmp_path: Path) -> None:
    figure = draw_roofline(roofline_data([a_run(tmp_path, CEILINGS)]))
    [axes] = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ceiling, measured", "layer, predicted", "opencv-cpu, measured"]
    markers = {line.get_label(): line.get_marker() for line in axes.lines}
    assert markers["layer, predicted"] != markers["opencv-cpu, measured"]
    assert not _overlapping(figure, axes)
    written = [text.get_text() for text in axes.texts]
    assert written == [
        "fp32 100 GFLOP/s", "bf16 150 GFLOP/s", "memory, triad 10.0 GB/s", "L2 copy 40.0 GB/s",
        MODEL,
    ]  # fmt: skip


def _overlapping(figure, axes):  # type: ignore[no-untyped-def]
    """Pairs of texts on the axes that lie on each other."""
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in axes.texts]
    return [pair for pair in combinations(range(len(boxes)), 2)
            if boxes[pair[0]].overlaps(boxes[pair[1]])]  # fmt: skip


def test_names_of_ceilings_that_lie_close_are_moved_apart(tmp_path: Path) -> None:
    """Three levels of copies at 40, 41 and 43 GB/s would be named on each other."""
    close = {**CEILINGS, "cache_bandwidth_gbs": {"L1": 43.0, "L2": 40.0, "L3": 41.0}}
    figure = draw_roofline(roofline_data([a_run(tmp_path, close)]))
    [axes] = figure.axes
    assert not _overlapping(figure, axes)
    named = [text.get_text() for text in axes.texts if "GB/s" in text.get_text()]
    assert named == [
        "memory, triad 10.0 GB/s", "L2 copy 40.0 GB/s", "L3 copy 41.0 GB/s", "L1 copy 43.0 GB/s",
    ]  # fmt: skip
