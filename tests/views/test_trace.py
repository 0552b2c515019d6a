"""Layer times as a timeline: the form that a trace viewer reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cspbench
from cspbench.cli.main import main
from cspbench.errors import InputError
from cspbench.views.trace import chrome_trace, torch_trace
from tests.report.runs import full_run, good, write_run

PLAIN, SPLIT = (f"{name}@224/opencv-cpu/b1/t1" for name in ("peleenet", "csppeleenet"))


def test_each_case_is_a_process_and_each_entry_an_event(tmp_path: Path) -> None:
    trace = json.loads(chrome_trace(full_run(tmp_path)))
    names = [one for one in trace["traceEvents"] if one["name"] == "process_name"]
    assert [(one["ph"], one["pid"], one["args"]["name"]) for one in names] == [
        ("M", 1, PLAIN), ("M", 2, SPLIT),
    ]  # fmt: skip
    events = [one for one in trace["traceEvents"] if one["ph"] == "X" and one["pid"] == 1]
    assert [(one["ts"], one["dur"]) for one in events] == [
        (0.0, 1000.0), (1000.0, 4000.0), (5000.0, 2000.0), (7000.0, 1000.0), (8000.0, 2000.0),
    ]  # fmt: skip
    assert events[1]["name"] == "/stages.0/conv1/Conv"
    assert events[1]["cat"] == "conv"
    assert events[1]["args"]["layers"] == "stages.0.conv1"
    assert events[1]["args"]["share"] == 0.4
    assert events[-1]["name"] == "(between layers)"
    assert "macs" not in events[-1]["args"], "what is not known is left out"


def test_the_file_is_what_viewers_read(tmp_path: Path) -> None:
    """Every event has the fields that the format requires; times are in microseconds."""
    trace = json.loads(chrome_trace(full_run(tmp_path)))
    assert trace["displayTimeUnit"] == "ms"
    for event in trace["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= event.keys()
        assert event["ph"] == "M" or (event["ts"] >= 0 and event["dur"] >= 0)


def test_a_run_without_layer_times_says_how_to_measure_them(tmp_path: Path) -> None:
    run = write_run(tmp_path, {PLAIN: good(PLAIN, 5.0)})
    with pytest.raises(InputError, match="--set measure"):
        chrome_trace(run)


def test_the_command_writes_a_file_and_refuses_other_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = full_run(tmp_path), tmp_path / "trace.json"
    words = ["show", str(run.path), "--format", "chrome-trace"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--layer-times", "--out", str(file)])
    assert end.value.code == 0
    assert json.loads(file.read_text()) == json.loads(chrome_trace(run))
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "add --layer-times" in capsys.readouterr().err


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> cspbench.Run:
    """A real run of one network by torch and by ONNX Runtime."""
    suite = {
        "name": "traced",
        "matrix": {"model": ["yolov3-tiny-prn@96"], "backend": ["torch-cpu", "onnxruntime"]},
        "measure": {"rounds": 1, "max_seconds": 0.1, "warmup": 0.1, "memory": False, "trace": True,
                    "sensors": "none"},
    }  # fmt: skip
    return cspbench.run(suite, tmp_path_factory.mktemp("results"))


def test_a_case_of_torch_keeps_the_trace_of_its_profiler(traced: cspbench.Run) -> None:
    """Each convolution three times, for three inferences; ONNX Runtime's case has none."""
    assert [one.case for one in traced.stored.launches if one.job == "trace"] == [
        "yolov3-tiny-prn@96/torch-cpu/b1/t1"
    ]
    trace = json.loads(torch_trace(traced, "*torch-cpu*"))
    names = [event.get("name") for event in trace["traceEvents"]]
    layers = [one for one in cspbench.analyze("yolov3-tiny-prn@96").layers if one.kind == "conv"]
    assert names.count("aten::conv2d") == 3 * len(layers)


def test_the_command_writes_the_trace_or_names_the_cases(
    traced: cspbench.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["show", str(traced.path), "--torch-trace"]
    with pytest.raises(SystemExit) as end:
        main([*words, "*", "--out", str(tmp_path / "t.json")])
    assert end.value.code == 0
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    with pytest.raises(SystemExit) as end:
        main([*words, "*onnx*"])
    assert end.value.code == 2
    assert (
        "matches 0 of the cases with a trace: yolov3-tiny-prn@96/torch" in capsys.readouterr().err
    )


def test_a_run_without_traces_says_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trace of torch"):
        torch_trace(full_run(tmp_path), "*")
