"""A model of one's own is measured as what it is: its sizes, types, layouts and several inputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from cspbench.analysis.api import analyze_id
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import maker
from cspbench.artifacts.reference import read_reference, stored_feeds
from cspbench.artifacts.spec import ARTIFACTS
from cspbench.artifacts.tensors import arrays_of, input_feed
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case
from cspbench.errors import InputError
from cspbench.jobs.layers import LayersRequest
from cspbench.jobs.spec import JOBS
from cspbench.jobs.time import TimeRequest
from cspbench.measure.agreement import check_agreement
from cspbench.models.build import build, own_batch, refuses_input, spec_of
from cspbench.models.code import allowing_code
from cspbench.models.identity import canonical
from cspbench.models.inputs import StatedInput, signature
from cspbench.runner.files import analyze_models
from cspbench.runner.plan import plan_case
from cspbench.suite.adhoc import Choice, adhoc_suite
from cspbench.views.layer_times import layer_time_rows


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))


def conv_file(name, shape, kind=TensorProto.FLOAT, channels=3, filters=2):
    """An ONNX file of one 3x3 convolution with padding; one of uint8 casts its input."""
    image = helper.make_tensor_value_info("image", kind, shape)
    weight = helper.make_tensor(
        "w", TensorProto.FLOAT, (filters, channels, 3, 3), [0.1] * (filters * channels * 9)
    )
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * 4)
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
             helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3],
                              pads=[1] * 4)]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [image], [out], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), name)


def two_inputs_file(name, first, second):
    """Two images through the same convolution, and the sum of what comes out."""
    inputs = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape)
              for one, shape in (("left", first), ("right", second))]  # fmt: skip
    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 3, 1, 1), [0.5] * 6)
    # OpenCV before 4.11 wants the size of the kernel told.
    nodes = [helper.make_node("Conv", ["left", "w"], ["a"], kernel_shape=[1, 1]),
             helper.make_node("Conv", ["right", "w"], ["b"], kernel_shape=[1, 1]),
             helper.make_node("Add", ["a", "b"], ["y"])]  # fmt: skip
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * 4)
    graph = helper.make_graph(nodes, "g", inputs, [out], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), name)


def agreed(model, backend, batch=1):
    """Make the artifact, run input 0 on a backend, and compare with the reference."""
    spec = ArtifactSpec(canonical(model), batch, BACKENDS.get(backend).artifact, 0)
    maker(spec.model, 0)(spec)
    inputs = ARTIFACTS.get(spec.kind).inputs(spec.path)
    session = BACKENDS.get(backend).load(spec.path, {}, 1)
    feed = input_feed(inputs, 0, 0)  # some engines read it where it lies
    session.set_input(feed)
    session.run()
    agreement = check_agreement(session.outputs(), spec.reference)
    session.close()
    return inputs, agreement


CFG = """[net]
width={width}
height={height}
channels={channels}

[convolutional]
filters=16
size=3
stride=2
pad=1
activation=leaky
"""


def test_a_darknet_network_has_height_and_width_as_its_file_says(tmp_path):
    (tmp_path / "a.cfg").write_text(CFG.format(width=800, height=416, channels=3))
    assert str(canonical("a.cfg")) == "darknet:a.cfg@416x800"
    assert analyze_id("a.cfg").macs == 16 * 27 * 208 * 400
    assert analyze_id("a.cfg@64x32").macs == 16 * 27 * 32 * 16


def test_a_size_that_is_no_multiple_of_the_stride_is_the_models_own_or_refused(tmp_path):
    (tmp_path / "a.cfg").write_text(CFG.format(width=100, height=50, channels=3))
    spec = spec_of("a.cfg")
    assert spec.size == (50, 100)
    assert refuses_input(spec, (50, 100)) is None
    layers = CFG.format(width=96, height=48, channels=3)
    (tmp_path / "fixed.cfg").write_text(layers + "[connected]\noutput=10\nactivation=linear\n")
    assert spec_of("fixed.cfg").fixed == (48, 96)
    with pytest.raises(InputError, match="the input must be 48x96, which the model fixes, not 64"):
        canonical("fixed.cfg@64")
    assert analyze_id("fixed.cfg").macs == 16 * 27 * 24 * 48 + 10 * 16 * 24 * 48


def test_a_darknet_network_of_grey_pictures(tmp_path):
    (tmp_path / "grey.cfg").write_text(CFG.format(width=32, height=32, channels=1))
    assert analyze_id("grey.cfg").macs == 16 * 9 * 16 * 16
    inputs, _ = agreed("grey.cfg", "onnxruntime")
    assert inputs[0].sides == (1, 1, 32, 32)


def test_a_layer_that_is_shared_before_a_shortcut(tmp_path):
    conv = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride={}\npad=1\n"
    conv += "activation=leaky\n"
    (tmp_path / "a.cfg").write_text(
        "[net]\nwidth=64\nheight=64\nchannels=3\n" + conv.format(2) + conv.format(1)
        + conv.format(1).replace("]\n", "]\nshare_index=1\n")
        + "[shortcut]\nfrom=-2\nactivation=leaky\n"
    )  # fmt: skip
    assert analyze_id("a.cfg").macs == (8 * 27 + 8 * 72 + 8 * 72) * 32 * 32
    agreed("a.cfg", "torch-cpu")


def test_names_of_other_libraries_for_darknets_activations(tmp_path):
    (tmp_path / "a.cfg").write_text(
        CFG.format(width=8, height=8, channels=3).replace("leaky", "silu")
    )
    with pytest.raises(
        InputError, match=r"unknown activation 'silu' \(Darknet's name is 'swish'\)"
    ):
        spec_of("a.cfg")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "opencv-cpu"])
def test_a_fixed_input_that_is_not_square_runs(backend):
    conv_file("a.onnx", (1, 3, 24, 40))
    inputs, agreement = agreed("a.onnx", backend)
    assert inputs[0].sides == (1, 3, 24, 40)
    assert agreement.max_relative_error < 1e-4
    assert analyze_id("a.onnx").macs == 2 * 27 * 24 * 40


def test_open_sides_need_a_size_and_the_message_says_how_to_give_one():
    conv_file("open.onnx", ("n", 3, "h", "w"))
    with pytest.raises(
        InputError, match=r"the height and the width .* are open: .*--input 384x640"
    ):
        canonical("open.onnx")
    assert analyze_id("open.onnx@16x24").macs == 2 * 27 * 16 * 24
    conv_file("half.onnx", (1, 3, 48, -1))
    with pytest.raises(InputError, match=r"the width of its input is open: .*@48x640"):
        canonical("half.onnx")
    with pytest.raises(InputError, match="must be 48xany, which the model fixes, not 64"):
        canonical("half.onnx@64")
    assert agreed("half.onnx@48x192", "onnxruntime")[0][0].sides == (1, 3, 48, 192)


def test_the_plan_refuses_what_a_fixed_file_cannot_take():
    conv_file("a.onnx", (1, 3, 24, 24))

    def planned(size, batch):
        return plan_case(Case.parse(f"onnx:a.onnx@{size}/onnxruntime/b{batch}/t1"), 0, None)

    assert planned(24, 1).status is None
    assert planned(24, 4).reason == "the batch of onnx:a.onnx is fixed to 1"
    assert "must be 24" in planned(48, 1).reason
    assert planned(48, 1).status.value == "unsupported"


@pytest.mark.parametrize(
    ("shape", "kind", "dtype"),
    [
        ((1, 1, 8, 8), TensorProto.FLOAT, "float32"),
        ((1, 3, 8, 8), TensorProto.FLOAT16, "float16"),
        ((1, 3, 8, 8), TensorProto.UINT8, "uint8"),
        ((1, 3, 8, 8), TensorProto.INT8, "int8"),
    ],
)
def test_channels_and_types_of_inputs(shape, kind, dtype):
    conv_file("a.onnx", shape, kind, channels=shape[1])
    inputs, _ = agreed("a.onnx", "onnxruntime")
    assert (inputs[0].sides, inputs[0].dtype) == (shape, dtype)
    values = input_feed(inputs, 0, 0)
    assert values.dtype == dtype
    if dtype == "uint8":
        assert values.max() > 200
    if dtype == "int8":
        assert values.min() < -80
        assert values.max() > 80


@pytest.mark.parametrize(
    ("shape", "size", "batch"),
    [
        ((1, 3, 20, 30), (20, 30), 1),
        ((None, 20, 30, 3), (20, 30), None),
        ((3, 20, 30), (20, 30), 1),
        ((20, 30, 1), (20, 30), 1),
        (("b", 80, "time"), None, None),
        ((1, 128), (1, 128), 1),
        ((7,), (1, 7), 1),
        ((), (1, 1), 1),
    ],
)
def test_layouts(shape, size, batch):
    read = signature("file", [StatedInput("x", shape, "float32")])
    assert (read.size, read.batch) == (size, batch)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "opencv-cpu"])
def test_two_images(backend):
    two_inputs_file("a.onnx", ("n", 3, "h", "w"), ("n", 3, "h", "w"))
    inputs, agreement = agreed("a.onnx@8x12", backend, batch=2)
    assert [one.sides for one in inputs] == [(2, 3, 8, 12)] * 2
    assert agreement.max_relative_error < 1e-4
    left, right = arrays_of(input_feed(inputs, 0, 0))
    assert not np.array_equal(left, right)
    assert analyze_id("a.onnx@8x12").macs == 2 * (2 * 3 * 8 * 12)


def test_inputs_from_a_file(tmp_path):
    conv_file("open.onnx", (1, 3, "h", "w"))
    image = np.linspace(0, 1, 3 * 10 * 14, dtype=np.float32).reshape(1, 3, 10, 14)
    np.savez("image.npz", image=image)
    model = "open.onnx[inputs=image.npz]"
    assert str(canonical(model)) == "onnx:open.onnx[inputs=image.npz]@10x14"
    assert analyze_id(model).macs == 2 * 27 * 10 * 14
    spec = ArtifactSpec(canonical(model), 1, "onnx", 0)
    maker(spec.model, 0)(spec)
    [feed] = stored_feeds(spec.reference)
    assert np.array_equal(feed, image)
    assert len(read_reference(spec.reference).outputs) == 1
    request = TimeRequest(Case.parse("m@10x14/onnxruntime/b1/t1"), spec.path, spec.reference)
    assert all(np.array_equal(one, image) for one in request.inputs())
    before = spec.key
    np.savez("image.npz", image=image + 1)
    assert ArtifactSpec(canonical(model), 1, "onnx", 0).key != before


def test_several_inputs_from_a_file_go_by_their_names():
    two_inputs_file("a.onnx", (1, 3, 4, 4), (1, 3, 4, 4))
    left, right = np.zeros((1, 3, 4, 4), np.float32), np.ones((1, 3, 4, 4), np.float32)
    np.savez("both.npz", right=right, left=left)
    spec = ArtifactSpec(canonical("a.onnx[inputs=both.npz]"), 1, "onnx", 0)
    maker(spec.model, 0)(spec)
    [(first, second)] = stored_feeds(spec.reference)
    assert (first.max(), second.min()) == (0, 1)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"image": np.zeros((1, 3, 8), np.float32)}, "is 1x3x8, and the model reads 1x3xHxW"),
        ({"image": np.zeros((1, 3, 8, 8))}, "is float64, and the model reads float32"),
        ({"a": np.zeros(1), "b": np.zeros(1)}, "has no array 'image', which the model reads"),
        (None, "is no NPZ file of numpy arrays"),
    ],
)
def test_a_file_of_inputs_that_does_not_fit(arrays, said):
    conv_file("open.onnx", (1, 3, "h", "w"))
    if arrays is None:
        Path("v.npz").write_bytes(b"hello")
    else:
        np.savez("v.npz", **arrays)
    with pytest.raises(InputError, match=said):
        canonical("open.onnx[inputs=v.npz]")


def sequence_file(name, batch="batch"):
    """A clip of open length and its length: 5 to 2 channels by 1x1x1, and twice the length."""
    clip = helper.make_tensor_value_info("clip", TensorProto.FLOAT, (batch, 5, "frames", 4, 6))
    length = helper.make_tensor_value_info("length", TensorProto.FLOAT, (batch,))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 5, 1, 1, 1), [0.5] * 10)
    nodes = [helper.make_node("Conv", ["clip", "w"], ["y"]),
             helper.make_node("Add", ["length", "length"], ["z"])]  # fmt: skip
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * 5),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, (None,))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [clip, length], outs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), name)


def test_an_axis_that_no_option_decides_is_as_long_as_in_the_file_of_inputs():
    """7 frames of 4x6: 10 x 7 x 24 MACs."""
    sequence_file("a.onnx")
    said = (
        r"onnx:a.onnx: axis 2 \(frames\) of its input 'clip' is open, and no option of a case "
        "decides it; give arrays with --input-file values.npz, or export"
    )
    with pytest.raises(InputError, match=said):
        canonical("a.onnx")
    clip = np.ones((1, 5, 7, 4, 6), np.float32)
    np.savez("v.npz", clip=clip, length=np.ones(1, np.float32))
    model = "a.onnx[inputs=v.npz]"
    assert analyze_id(model).macs == 10 * 7 * 24
    spec = ArtifactSpec(canonical(model), 1, "onnx", 0)
    maker(spec.model, 0)(spec)
    inputs = ARTIFACTS.get("onnx").inputs(spec.path)
    assert [one.shape for one in inputs] == [(1, 5, 7, 4, 6), (1,)]
    [reference] = read_reference(spec.reference).outputs
    assert [float(output.max()) for output in reference] == [2.5, 2.0]  # 5 x 0.5, and 1 + 1


def test_an_axis_is_what_another_of_its_name_is():
    """The one axis of the length is named as the clip's first: it is the batch, and no side."""
    sequence_file("a.onnx")
    clip, length = spec_of("a.onnx").inputs
    assert (clip.shape, length.shape) == (("N", 5, "?frames?", 4, 6), ("N",))
    assert clip.at(3, (4, 6)).shape == (3, 5, "?frames?", 4, 6)
    assert length.at(3, (4, 6)).shape == (3,)


def test_the_plan_says_which_types_an_engine_does_not_read():
    conv_file("a.onnx", (1, 3, 8, 8), TensorProto.UINT8)
    planned = plan_case(Case.parse("onnx:a.onnx@8/opencv-cpu/b1/t1"), 0, None)
    assert planned.status.value == "unsupported"
    assert planned.reason == "OpenCV reads inputs of float32; 'image' is uint8"
    assert plan_case(Case.parse("onnx:a.onnx@8/onnxruntime/b1/t1"), 0, None).status is None


def test_the_batch_that_a_file_fixes_is_its_own():
    conv_file("two.onnx", (2, 3, 8, 8))
    assert own_batch("two.onnx") == 2
    [analysis] = analyze_models(["two.onnx"])
    assert analysis.macs == 2 * 2 * 27 * 64
    suite = adhoc_suite(["two.onnx"], Choice(backend=("onnxruntime",), threads=(1,))).suite
    assert [case.batch for case in suite.cases] == [2]


def test_nodes_get_names_of_their_own_and_an_order(tmp_path):
    conv_file("a.onnx", (1, 3, 8, 8))
    model = onnx.load("a.onnx")
    model.graph.node.add().CopyFrom(helper.make_node("Relu", ["y"], ["z"], name="same"))
    model.graph.node.add().CopyFrom(helper.make_node("Relu", ["z"], ["v"], name="same"))
    model.graph.node.add().CopyFrom(helper.make_node("Relu", ["v"], ["u"], name="own"))
    model.graph.output[0].name = "u"
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, "b.onnx")
    agreed("b.onnx", "onnxruntime")
    spec = ArtifactSpec(canonical("b.onnx"), 1, "onnx", 0)
    names = [node.name for node in onnx.load(spec.path).graph.node]
    assert names == ["Cast_0", "Conv_1", "Relu_2", "Relu_3", "own"]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "opencv-cpu"])
def test_layer_times_of_nodes_without_names_belong_to_their_layers(backend):
    conv_file("a.onnx", (1, 3, 16, 16))
    spec = ArtifactSpec(canonical("a.onnx"), 1, "onnx", 0)
    maker(spec.model, 0)(spec)
    request = LayersRequest(Case.parse(f"m@16/{backend}/b1/t1"), spec.path, spec.reference,
                            max_seconds=0.05)  # fmt: skip
    profile = JOBS.get("layers").perform(request, lambda _phase: None).layers
    rows = layer_time_rows("c", profile, analyze_id("a.onnx").layers)
    named = [name for row in rows for name in row["layers"]]
    assert "conv #1, 3x3, 3 to 2, 16x16" in named


def test_types_that_cannot_be_made_are_named():
    conv_file("a.onnx", (1, 3, 8, 8), TensorProto.STRING)
    with pytest.raises(InputError, match="its input 'image' has the type string"):
        spec_of("a.onnx")


def test_an_exported_program_that_is_not_square_with_two_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, image, scale):
            return self.conv(image) * scale

    example = (torch.rand(1, 3, 8, 12), torch.ones(1))
    torch.export.save(torch.export.export(Two().eval(), example), "a.pt2")
    assert [one.shape for one in spec_of("a.pt2").inputs] == [(1, 3, 8, 12), (1,)]
    with allowing_code():
        for backend in ("torch-cpu", "onnxruntime"):
            assert agreed("a.pt2", backend)[1].max_relative_error < 1e-4
    with pytest.raises(InputError, match="must be 8x12"):
        canonical("a.pt2@16")


NET = """
from dataclasses import dataclass
import torch
from torch import nn
from beside import WIDTH
@dataclass
class Out:
    logits: torch.Tensor
    boxes: torch.Tensor
    loss: object = None
class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)
    def forward(self, x):
        y = self.conv(x)
        return Out(y.mean((2, 3)), y)
class Branch(Named):
    def forward(self, x):
        y = self.conv(x)
        return torch.relu(y) if x.mean() > 0.9 else torch.sin(y)
class Sized(Named):
    def forward(self, x):
        return self.conv(x) if x.shape[2] > 4 else x
class Wrong(Named):
    def forward(self, x):
        return object()
def lazy(): return nn.Sequential(nn.LazyConv2d(8, 3))
def fails(): return 1 / 0
"""


@pytest.fixture
def net(tmp_path):
    """``folder/net.py`` and a module beside it that it imports."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/net.py").write_text(NET)
    (tmp_path / "folder/beside.py").write_text("WIDTH = 4\n")
    yield "folder/net.py"
    sys.modules.pop("beside", None)


def test_a_python_file_is_an_argument(net):
    with allowing_code():
        assert analyze_id(f"{net}:Named@8").macs == 4 * 27 * 6 * 6
        assert build(f"{net}:Named").conv.out_channels == 4
    with pytest.raises(InputError, match="needs --allow-code"):
        build(f"{net}:Named")
    with pytest.raises(InputError, match=r"gone\.py: there is no such file"):
        spec_of("gone.py:net")


def test_what_fails_in_the_users_code_is_one_sentence_with_its_line(net):
    with allowing_code():
        with pytest.raises(InputError, match="its layers are lazy"):
            build(f"{net}:lazy")
        with pytest.raises(InputError, match=r"ZeroDivisionError: .*net\.py:29"):
            build(f"{net}:fails")


@pytest.mark.parametrize("backend", ["onnxruntime", "torch-cpu"])
def test_outputs_in_a_dataclass(net, backend):
    with allowing_code():
        assert agreed(f"{net}:Named@8", backend)[1].max_relative_error < 1e-4


def test_a_frozen_branch_is_flagged_and_a_branch_on_a_size_is_not(net):
    with allowing_code():
        assert agreed(f"{net}:Branch@8", "onnxruntime")[1].frozen_branch
        assert not agreed(f"{net}:Sized@8", "onnxruntime")[1].frozen_branch


def test_a_gamma_alone_implies_a_fusion_as_in_a_suite():
    assert str(canonical("darknet53[csp.gamma=0.25]@64")) == (
        "darknet53[csp.fusion=csp,csp.gamma=0.25]@64"
    )
    with pytest.raises(InputError, match=r"csp\.gamma has no effect with csp\.fusion=none"):
        canonical("darknet53[csp.fusion=none,csp.gamma=0.25]")


LIBRARY = """
from torch import nn
def list_models(): return ["net256", "rect"]
def create_model(name, pretrained=False):
    net = nn.Conv2d(3, 8, 3, padding=1)
    size = (3, 256, 256) if name == "net256" else (3, 64, 96)
    net.pretrained_cfg = {"input_size": size, "fixed_input_size": name == "rect", "mean": (0.5,)}
    return net
"""


def library(tmp_path, monkeypatch, name, text):
    """A stand-in for a library that is found before the installed one."""
    (tmp_path / "libraries" / name).mkdir(parents=True)
    (tmp_path / "libraries" / name / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "libraries"))
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)


def test_the_size_that_a_library_states(tmp_path, monkeypatch):
    library(tmp_path, monkeypatch, "timm", LIBRARY)
    spec = spec_of("timm:net256")
    assert spec.size == (256, 256)
    assert "timm" not in sys.modules  # another process was asked
    assert spec.summary == "net256 of timm (its images: mean 0.5)"
    assert spec_of("timm:rect").fixed == (64, 96)
    [kept] = (tmp_path / "cache/libraries").iterdir()
    assert json.loads(kept.read_text())["rect"]["size"] == [64, 96]


def test_a_library_whose_import_fails_is_unavailable_in_the_plan(tmp_path, monkeypatch):
    library(tmp_path, monkeypatch, "torchvision", "raise RuntimeError('no operator nms')")
    planned = plan_case(Case.parse("torchvision:resnet18@224/onnxruntime/b1/t1"), 0, None)
    assert planned.status.value == "unavailable"
    assert planned.reason == "torchvision cannot be imported: no operator nms"
