"""Models of files are analysed and exported in a worker with bounds; those of the zoo are not."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cspbench.core.case import ModelId
from cspbench.errors import InputError
from cspbench.runner import files
from cspbench.runner.files import analyze_models, is_of_file
from tests.spent import MOST_MB, spent

SCRIPT = Path(sys.executable).with_name("cspbench")
CFG = """[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.cfg").write_text(CFG)
    return tmp_path


def save(path, nodes, initializers=(), inputs=(), opset=18):
    graph = helper.make_graph(
        [*nodes, helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8)), *inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(initializers),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    onnx.save(model, path)


def growing_shapes(path):
    """Each Gather adds 99 sides to the shape of the one before: a million in all, in 500 kB.

    It has neither many nodes nor large tensors. The reader that it exhausts is onnx's own.
    """
    sides = helper.make_tensor_value_info("i", TensorProto.INT64, [1] * 100)
    names = ["x", *(f"g{number}" for number in range(10_000))]
    gathers = [
        helper.make_node("Gather", [names[n], "i"], [names[n + 1]]) for n in range(len(names) - 1)
    ]
    save(path, gathers, inputs=[sides])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("peleenet@64", False),
        ("csppeleenet+prn", False),
        ("timm:resnet18", False),
        ("python:mine:make", False),  # the user's own code, in the user's own process
        ("darknet:net.cfg", True),
        ("onnx:a.onnx@8", True),
        ("exported:a.pt2", True),
        ("timm:resnet18[weights=net.weights]", True),
    ],
)
def test_which_models_are_of_files(folder, model, expected):
    (folder / "net.weights").write_bytes(b"")
    assert is_of_file(ModelId.parse(model)) is expected


def test_models_of_files_are_not_read_in_this_process(folder, monkeypatch):
    here = []
    monkeypatch.setattr(files, "analyze_id", lambda model, **_: here.append(model))
    models = ["darknet:net.cfg", "peleenet@64"]
    darknet, _zoo = analyze_models(models)
    assert here == ["peleenet@64"]
    assert darknet.macs == 8 * 32 * 32 * 27
    assert analyze_models(["darknet:net.cfg"], batch=2)[0].macs == 2 * darknet.macs


def test_a_kept_analysis_needs_no_worker(folder, monkeypatch):
    [first] = analyze_models(["darknet:net.cfg"])
    monkeypatch.setattr(files, "LocalExecutor", None)
    assert analyze_models(["darknet:net.cfg"])[0].totals == first.totals
    with pytest.raises(TypeError):  # it would need one
        analyze_models(["darknet:net.cfg"], cache=False)


def test_mistakes_are_the_readers_own_sentences(folder):
    (folder / "net.cfg").write_text("[net]\n")
    with pytest.raises(InputError, match=r"net\.cfg:1: \[net\] is not followed"):
        analyze_models(["darknet:net.cfg"])
    with pytest.raises(InputError, match="there is no such file"):
        analyze_models(["onnx:none.onnx"])
    (folder / "a.pt2").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.pt2"):
        analyze_models(["exported:a.pt2"])


@pytest.mark.parametrize(
    "command",
    [
        ("analyze",),
        ("show-model",),
        pytest.param(("export", "--to", "onnx", "--out", "x.onnx"), marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_a_reader_that_takes_all_memory_is_ended_with_a_sentence(folder, command):
    growing_shapes(folder / "a.onnx")
    cost = spent(SCRIPT, *command, "onnx:a.onnx")
    assert cost.code == 2, cost.output
    assert cost.output.startswith("error: ")
    assert len(cost.output.splitlines()) == 1
    assert cost.peak_mb < MOST_MB, cost


def test_a_reader_that_takes_all_time_is_ended_with_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(files, "PROCESSOR_SECONDS", 0)
    with pytest.raises(
        InputError, match=r"darknet:net\.cfg: cannot be analysed: .* ended by SIGXCPU"
    ):
        analyze_models(["darknet:net.cfg"])


def test_a_reader_that_ends_its_process_ends_with_a_sentence(folder):
    # Without an axis the Concat has no type, and onnx's inference reads it by a null pointer.
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["c"]),
        helper.make_node("RegexFullMatch", ["c"], ["r"], pattern="a"),
    ]
    save(folder / "a.onnx", nodes, opset=20)
    with pytest.raises(InputError, match="ended by SIGSEGV"):
        analyze_models(["onnx:a.onnx"])


def test_an_engine_takes_no_more_than_the_model_explains(folder):
    # ONNX Runtime folds the padding when it loads the file: 2.4 GB from 130 bytes.
    pad = helper.make_node("Pad", ["o", "p"], ["c"])
    many = numpy_helper.from_array(np.array([0, 300_000_000]), "p")
    save(folder / "a.onnx", [pad], [many, numpy_helper.from_array(np.array([1]), "o")])
    cost = spent(SCRIPT, "export", "onnx:a.onnx", "--to", "onnx", "--out", "x.onnx")
    assert cost.code == 2, cost.output
    assert cost.peak_mb < MOST_MB, cost


def test_an_export_of_a_file_is_what_a_backend_measures(folder):
    cost = spent(SCRIPT, "export", "darknet:net.cfg", "--to", "onnx", "--out", "x.onnx")
    assert cost.code == 0, cost.output
    [convolution] = [n for n in onnx.load(folder / "x.onnx").graph.node if n.op_type == "Conv"]
    assert convolution.input


@pytest.mark.slow
def test_a_model_whose_weights_are_large_is_let_through(folder):
    layer = CFG.partition("[convolutional]")[2].replace("filters=8", "filters=1024")
    (folder / "net.cfg").write_text(CFG + f"[convolutional]{layer}" * 5)  # 38 million weights
    for kind in ("onnx", "pt2"):
        cost = spent(SCRIPT, "export", "darknet:net.cfg", "--to", kind, "--out", f"x.{kind}")
        assert cost.code == 0, cost.output
    cost = spent(SCRIPT, "analyze", "--no-cache", "onnx:x.onnx")
    assert cost.code == 0, cost.output
