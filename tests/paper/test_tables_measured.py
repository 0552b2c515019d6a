"""The paper's tables beside measured cases."""

from __future__ import annotations

import json

import pytest

from cspbench.paper.reproduced import TABLES
from cspbench.views.formats import render
from tests.paper.fixtures import case, evidence, lost

TINY, REF = "yolov3-tiny@416", "csppeleenet-ref+prn@320"


def test_ratios_are_to_the_common_model_on_the_same_backend():
    known = evidence(
        [case(TINY, 20.0), case(REF, 16.0),
         lost(REF, "unavailable", "no NVIDIA driver is loaded", "torch-cuda")]
    )  # fmt: skip
    table = TABLES[5](known)
    row = next(row for row in table.rows if row["model"] == REF)
    assert row["cpu_ratio"].estimate == pytest.approx(1.25)
    assert row["cpu_fps"] == pytest.approx(62.5)
    assert row["gpu_ratio"] is None
    text = table.readable().set_index("system").loc["CSPPeleeNet Ref.-PRN"]
    assert text["against YOLOv3-tiny, i9-9900K, OpenCV DNN (published)"] == "1.39"  # 75 / 54
    assert (
        text["against YOLOv3-tiny, opencv-cpu (measured)"]
        == "×1.25 (1.22 to 1.29, separate launches)"
    )


def test_measured_and_published_fps_never_share_a_column():
    table = TABLES[5](evidence([case(TINY, 20.0), case(REF, 16.0)]))
    for column in table.columns:
        if "fps" in column.key or "ratio" in column.key:
            assert column.origin == ("published" if "published" in column.key else "measured")
    headings = list(table.readable().columns)
    assert "fps, i9-9900K, OpenCV DNN (published)" in headings
    assert "fps, opencv-cpu (measured)" in headings
    # A device without a measurement has no empty columns, but its reason below.
    assert not any("torch-cuda" in heading for heading in headings)
    assert any(note.startswith("Beside GTX 1080 Ti:") for note in table.notes)


def test_a_case_that_was_measured_alone_has_fps_but_no_ratio():
    row = next(r for r in TABLES[5](evidence([case(REF, 16.0)])).rows if r["model"] == REF)
    assert row["cpu_fps"] == pytest.approx(62.5)
    assert row["cpu_ratio"] is None


def test_classifiers_are_compared_with_their_plain_form():
    known = evidence([case("resnext50@256", 30.0), case("cspresnext50@256", 25.0)])
    rows = {row["model"]: row for row in TABLES[3](known).rows}
    assert rows["cspresnext50@256"]["ratio"].estimate == pytest.approx(1.2)
    assert "ratio" not in rows["resnext50@256"]
    swish = rows["csppeleenet[act=swish]@224"]
    assert swish["params_published"] is None


def test_detectors_are_compared_with_the_published_anchor():
    anchor = "cspresnext50+panet-spp@512"
    known = evidence([case(anchor, 300.0), case("cspdarknet53+panet-spp@512", 400.0)])
    rows = {row["model"]: row for row in TABLES[4](known).rows}
    dark = rows["cspdarknet53+panet-spp@512"]
    assert dark["ratio"].estimate == pytest.approx(0.75)
    assert dark["ratio_published"] == pytest.approx(51 / 44)
    assert rows[anchor]["ratio_published"] is None


def test_every_form_can_be_printed():
    table = TABLES[5](evidence([case(TINY, 20.0), case(REF, 16.0)]))
    rows = {row["system"]: row for row in json.loads(render(table.frame(), "json"))}
    row = rows["CSPPeleeNet Ref.-PRN"]
    assert row["cpu_ratio"] == pytest.approx(1.25)
    assert row["cpu_ratio_low"] < row["cpu_ratio"] < row["cpu_ratio_high"]
    assert row["cpu_ratio_in_turn"] is False
    assert rows["YOLOv3-tiny"]["cpu_ratio"] is None
    assert "×1.25 (1.22 to 1.29, separate launches)" in render(table.readable(), "md")
    assert "not found" in render(table.readable(), "latex")
