"""A model as an argument of commands (run, plan, analyze, ...) and of the Python API."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

import cspbench
from cspbench.cli.main import cli
from cspbench.cli.model_arguments import separated
from cspbench.core.case import Case
from cspbench.errors import InputError
from cspbench.suite.adhoc import Choice, adhoc_suite
from cspbench.suite.load import load_suite

#: So short that a run takes seconds.
QUICK = ["--set", "measure.max_seconds=0.1", "--set", "measure.warmup=0.1", "--rounds", "2",
         "--set", "measure.target_ratio=0.9", "--set", "measure.memory=false",
         "--no-report"]  # fmt: skip


def conv_file(path, filters=2, shape=(1, 3, 16, 24)):
    """An ONNX file of one convolution."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * 4)
    weight = helper.make_tensor("w", TensorProto.FLOAT, (filters, 3, 1, 1), [0.5] * (3 * filters))
    # OpenCV before 4.11 wants the size of the kernel told.
    conv = helper.make_node("Conv", ["image", "w"], ["y"], kernel_shape=[1, 1])
    graph = helper.make_graph([conv], "g", [image], [out], [weight])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))


def called(*arguments, code=0):
    try:
        runner = CliRunner(mix_stderr=False)  # before click 8.2 both were one
    except TypeError:
        runner = CliRunner()
    result = runner.invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_a_model_runs_in_one_line_and_the_answer_repeats_itself():
    conv_file("nets/my net+1.onnx")
    answer = called(
        "run", "nets/my net+1.onnx", "--backend", "onnxruntime", "--threads", "1,2", *QUICK
    )
    model = '"onnx:nets/my net+1.onnx"@16x24'
    assert f"{model}, batch 1: onnxruntime with " in answer
    assert " is fastest: " in answer
    assert " times as long (" in answer
    [command] = [line for line in answer.splitlines() if line.startswith("again")]
    words = shlex.split(command.removeprefix("again"))
    again = json.loads(called(*words[1:], *QUICK, "--format", "json"))
    [case] = again["cases"]
    assert case["status"] == "ok"
    assert case["id"].startswith(f"{model}/onnxruntime/b1/t")
    assert again["answers"][0]["fastest"] == case["id"]
    assert again["answers"][0]["others"] == []


def test_the_saved_suite_is_the_one_that_was_planned(tmp_path):
    conv_file("nets/a.onnx", shape=(None, 3, None, None))
    arguments = ("nets/a.onnx", "--input", "16x24,32", "--batch", "1,2", "--threads", "1",
                 "--backend", "onnxruntime,opencv-cpu[engine=classic]")  # fmt: skip
    (tmp_path / "suites").mkdir()
    planned = json.loads(
        called("plan", *arguments, "--save-suite", "suites/a.yaml", "--format", "json")
    )
    ids = [case["id"] for case in planned["cases"]]
    assert len(ids) == 8
    assert '"onnx:nets/a.onnx"@16x24/opencv-cpu[engine=classic]/b2/t1' in ids
    assert [case.id for case in load_suite(Path("suites/a.yaml")).cases] == ids


def test_without_options_every_engine_of_the_processor_that_reads_the_file_runs_it():
    conv_file("a.onnx")
    suite = adhoc_suite(["a.onnx"], Choice()).suite
    backends = {case.backend.name for case in suite.cases}
    assert {"onnxruntime", "openvino", "opencv-cpu"} >= backends
    assert "onnxruntime" in backends
    assert "torch-cpu" not in backends  # it does not read ONNX files
    assert {case.threads for case in suite.cases} == {1, len(os.sched_getaffinity(0))}
    assert "torch-cpu" in {
        case.backend.name for case in adhoc_suite(["peleenet"], Choice()).suite.cases
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "a.onnx", "--threads", "0"], "--threads 0: write whole numbers from 1 on"),
        (
            ["run", "a.onnx", "--backend", "onxruntime"],
            "unknown backend 'onxruntime' (did you mean",
        ),
        (["run", "a.onnx", "--input", "99"], "must be 16x24, which the model fixes, not 99"),
        (["run", "gone.onnx"], "gone.onnx: there is no such file (an ONNX file)"),
        (["run", "quick", "--threads", "1"], "--threads: for models, and none is named"),
        (["run", "--resume", "x", "--batch", "2"], "leave out options of models"),
        (["run", "a.onnx", "--precision", "fp64"], "no backend of this machine's processor"),
        (
            ["run", "a.onnx", "--save-suite", "no/a.yaml"],
            "cannot write no/a.yaml: there is no folder",
        ),
        (["plan", "open.onnx"], "the height and the width of its input are open"),
        (["analyze", "a.onnx@32"], "must be 16x24"),
        (["explain", "a.onnx", "a.onnx"], "are the same case"),
    ],
)
def test_mistakes_are_sentences(arguments, said, monkeypatch):
    conv_file("a.onnx")
    conv_file("open.onnx", shape=("n", 3, "h", "w"))
    result = CliRunner().invoke(cli, arguments)
    error = result.exception
    assert isinstance(error, InputError), result.output
    assert any(said in problem for problem in error.problems), error.problems


def test_a_model_that_nothing_runs_is_not_measured_and_says_why():
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    odd = helper.make_node("Odd", ["x"], ["y"], domain="odd")
    graph = helper.make_graph([odd], "g", [image], [out])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("odd", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "odd.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "run", "odd.onnx", "--backend", "onnxruntime", *QUICK],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "nothing was measured in " in done.stderr
    assert "unsupported: ONNX Runtime cannot run the file: " in done.stderr
    assert "Load model from" not in done.stderr


def test_inputs_from_a_file_are_measured():
    conv_file("a.onnx", shape=(1, 3, None, None))
    np.savez("image.npz", np.zeros((1, 3, 8, 12), np.float32))
    [analysis] = json.loads(called("analyze", "a.onnx", "--input-file", "image.npz", "--format",
                                   "json"))  # fmt: skip
    assert analysis["macs"] == 6 * 8 * 12
    found = json.loads(called("run", "a.onnx", "--backend", "onnxruntime", "--threads", "1",
                              "--input-file", "image.npz", *QUICK, "--format", "json"))  # fmt: skip
    [case] = found["cases"]
    assert case["status"] == "ok"
    assert case["id"] == "onnx:a.onnx[inputs=image.npz]@8x12/onnxruntime/b1/t1"


def test_a_path_is_an_argument_of_every_command():
    conv_file("nets/a.onnx")
    [analysis] = json.loads(called("analyze", "nets/a.onnx", "--format", "json"))
    assert analysis["macs"] == 6 * 16 * 24
    assert called("export", "nets/a.onnx", "--to", "onnx", "--out", "b.onnx").strip() == "b.onnx"
    shown = called("show-model", "nets/a.onnx")
    assert "confidence" not in shown  # nobody confirms a file
    assert "published numbers" not in shown
    plan = called("plan", "quick", "--set", "model=nets/a.onnx", "--set", "input=[16, 24]",
                  "--set", "backend=onnxruntime")  # fmt: skip
    assert '"onnx:nets/a.onnx"@16x24/onnxruntime/b1/t1' in plan


def test_a_name_that_is_no_utf8_is_an_argument(tmp_path):
    name = b"caf\xe9 \xff.onnx"
    conv_file("a.onnx")
    Path("a.onnx").rename(os.fsdecode(name))
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "analyze", name, "--format", "json"],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    [found] = json.loads(done.stdout)
    assert found["macs"] == 6 * 16 * 24
    assert cspbench.analyze(found["id"]).macs == 6 * 16 * 24  # the printed id is an argument, too


def test_the_python_api_takes_paths_mappings_and_names():
    path = conv_file(Path("nets/a.onnx"))
    analysis = cspbench.analyze(path)
    assert repr(analysis) == (
        "Analysis('\"onnx:nets/a.onnx\"@16x24': 0.000 M parameters, 0.000 GMACs on 1x3x16x24)"
    )
    assert {case.case.threads for case in cspbench.plan(path).cases} >= {1}
    measure = {"max_seconds": 0.1, "warmup": 0.1, "rounds": 2, "memory": False, "target_ratio": 0.9}
    run = cspbench.run(
        {"name": "mine", "matrix": {"model": [str(path)], "backend": ["onnxruntime"]},
         "measure": measure}
    )  # fmt: skip
    assert repr(run) == f"Run({run.name!r}: 1 of 1 cases measured)"
    assert cspbench.load("latest").path == run.path
    assert run.cases["id"].tolist() == ['"onnx:nets/a.onnx"@16x24/onnxruntime/b1/t1']
    with pytest.raises(InputError, match="write the size behind the model"):
        cspbench.analyze("nets/a.onnx", (1, 3, 8, 8))


def test_a_gate_judges_a_file_of_two_commits(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=a@b", *words], check=True,
                       capture_output=True)  # fmt: skip

    git("init", "-q", ".")
    conv_file("nets/a.onnx", filters=2)
    git("add", "nets")
    git("commit", "-qm", "a")
    conv_file("nets/a.onnx", filters=2)
    git("commit", "-qm", "b", "--allow-empty")
    report = cspbench.gate("nets/a.onnx", "HEAD~1", "HEAD", only=["*/onnxruntime/*"])
    assert [
        (verdict.case, str(verdict.verdict), verdict.reason) for verdict in report.verdicts
    ] == [('"onnx:nets/a.onnx"@16x24/onnxruntime/b1/t1', "same", "identical")]


def test_backends_between_commas():
    assert separated("a,b[x=1,y=2], c") == ["a", "b[x=1,y=2]", "c"]
    assert str(Case.parse("m@8/b[x=1,y=2]/b1/t1").backend) == "b[x=1,y=2]"


def test_the_plan_of_a_file_says_what_the_run_would_say(tmp_path):
    """Only its loader tells which operators an engine has."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Odd", ["x"], ["y"], domain="odd")], "g", [image],
                              [out])  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("odd", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "odd.onnx")
    plan = json.loads(called("plan", "odd.onnx", "--threads", "1", "--format", "json"))
    assert {case["status"] for case in plan["cases"]} == {"unsupported"}
    assert "is not a registered function" in plan["cases"][0]["reason"]
    conv_file("a.onnx")
    plan = json.loads(called("plan", "a.onnx", "--threads", "1", "--format", "json"))
    assert {case["status"] for case in plan["cases"]} == {"ready"}


def test_an_axis_that_nothing_decides_is_said_by_the_plan(tmp_path):
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 5, "frames", 4, 6))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [image], [out])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "open.onnx")
    plan = json.loads(called("plan", "open.onnx@4x6", "--threads", "1", "--format", "json"))
    assert {case["status"] for case in plan["cases"]} == {"unsupported"}
    assert all("axis 2 (frames) of its input 'x' is open" in one["reason"] for one in plan["cases"])
