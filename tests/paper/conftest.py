"""A small run of the paper's Table 5, written once, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench.views.frames import Run
from tests.report.runs import analysis, bad_launch, good, write_run

TINY, TINY_PRN = "yolov3-tiny@416", "yolov3-tiny-prn@416"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the run."""
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="session")
def table5(results: Path) -> Run:
    """YOLOv3-tiny-PRN 1.3 times as fast as YOLOv3-tiny; one crashed, one unavailable."""
    cases = {f"{model}/opencv-cpu/b1/t1": good(f"{model}/opencv-cpu/b1/t1", ms)
             for model, ms in ((TINY, 13.0), (TINY_PRN, 10.0))}  # fmt: skip
    crashed = "csppeleenet-ref+prn@320/opencv-cpu/b1/t1"
    cases[crashed] = [
        bad_launch(crashed, "crashed", "ended by <b>SIGSEGV</b>", number=number)
        for number in range(2)
    ]
    skipped = {f"{TINY}/jetson/b1/t1": ("unavailable", "not an NVIDIA Jetson board")}
    analyses = {model: analysis(model, [100, 400]) for model in (TINY, TINY_PRN)}
    return write_run(
        results, {**cases, **skipped}, name="20260102-030405-paper-table5", analyses=analyses,
        suite={"name": "paper-table5", "description": "", "path": "suites/paper/table5.yaml"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is none of the paper's suites."""
    case = "peleenet@224/opencv-cpu/b1/t1"
    return write_run(tmp_path_factory.mktemp("results"), {case: good(case, 12.0)})
