"""Exported programs and ONNX files give the same record as the module that they came from."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from cspbench.analysis.api import analyze
from cspbench.analysis.onnx_graph import analyze_onnx
from cspbench.errors import InputError
from tests.analysis.nets import NETS

#: What does not depend on when Python drops a reference.
SAME = (
    *("params", "params_conv", "params_file", "macs", "macs_conv", "macs_linear", "macs_matmul"),
    *("bflops", "cio_conv", "cio_paper", "memory_access_cost", "traffic_bytes", "copy_bytes"),
    *("traffic_bytes_fused", "saved_for_backward_bytes", "max_layer_bflops", "weight_bytes"),
)


@pytest.fixture(scope="module", params=list(NETS))
def network(request):
    make, side = NETS[request.param]
    torch.manual_seed(0)
    module = make().eval()
    # Distinct values everywhere, or the exporter merges equal tensors.
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) + 0.5)
    return request.param, module, torch.randn(1, 3, side, side)


def test_exported_programs(network):
    _, module, x = network
    eager = analyze(module, x)
    exported = analyze(torch.export.export(module, (x,)))
    assert {name: exported.totals[name] for name in SAME} == {
        name: eager.totals[name] for name in SAME
    }
    assert exported.coverage == 100.0
    # A graph frees a tensor after its last use, eager code when Python lets go of it.
    assert exported.peak_live_bytes <= eager.peak_live_bytes
    convolutions = [layer.name for layer in exported.layers if layer.kind == "conv"]
    assert convolutions == [layer.name for layer in eager.layers if layer.kind == "conv"]


def export_onnx(module, x, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17, **options)
    return str(path)


def test_onnx_files(network, tmp_path):
    name, module, x = network
    path = export_onnx(module, x, tmp_path / "net.onnx")  # batch norm is folded
    eager, found = analyze(module, x), analyze_onnx(path)
    compared = ["macs", "macs_conv", "macs_linear", "macs_matmul", "bflops", "cio_conv"]
    compared += ["memory_access_cost"]
    if name != "vit":  # its exporter writes soft-max out for attention
        compared.append("cio_paper")
    assert {n: found.totals[n] for n in compared} == {n: eager.totals[n] for n in compared}
    assert found.params_conv == eager.params_conv
    assert found.coverage == 100.0
    assert found.source == "onnx"


def test_onnx_with_batch_norm_kept(network, tmp_path):
    _, module, x = network
    path = export_onnx(
        module,
        x,
        tmp_path / "net.onnx",
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    eager, found = analyze(module, x), analyze_onnx(path)
    assert found.params == eager.params
    assert found.params_file == eager.params_file


def model(nodes, inputs, outputs, initializers=()):
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in group]
             for group in (inputs, outputs)]  # fmt: skip
    graph = helper.make_graph(nodes, "g", *infos, initializer=list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def test_a_graph_by_hand(tmp_path):
    # x 1x2x4x4 -> grouped 1x1 convolution to 4 -> slice to 2 channels -> max-pool 2x2
    weight = onnx.numpy_helper.from_array(np.ones((4, 1, 1, 1), np.float32), "w")
    bounds = [
        onnx.numpy_helper.from_array(np.array([v], np.int64), n)
        for n, v in (("from", 0), ("to", 2), ("axis", 1))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=2, name="/stem/conv/Conv"),
        helper.make_node("Slice", ["c", "from", "to", "axis"], ["s"]),
        helper.make_node("MaxPool", ["s"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    path = tmp_path / "hand.onnx"
    onnx.save(model(nodes, [("x", (1, 2, 4, 4))], [("y", (1, 2, 2, 2))], [weight, *bounds]), path)
    analysis = analyze_onnx(str(path))
    assert analysis.macs == 4 * 16 * 1
    assert analysis.params == 4
    assert analysis.bflops * 1e9 == pytest.approx(2 * 64 + 8 * 4)
    assert analysis.copy_bytes == 2 * 16 * 4  # in a stored graph a slice is a copy
    # x 128 bytes is kept; c 256, s 128 while the slice runs
    assert analysis.peak_live_bytes == 128 + 256 + 128
    assert (analysis.layers[0].name, analysis.layers[0].stage) == ("stem.conv", "stem")


def test_unknown_operators_and_unknown_shapes_are_reported(tmp_path):
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], domain="my.domain"),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    path = tmp_path / "unknown.onnx"
    onnx.save(model(nodes, [("x", (1, 2, 4, 4))], [("y", None)]), path)
    analysis = analyze_onnx(str(path))
    assert analysis.unsupported == {"Relu": 1, "my.domain.Mystery": 1}
    assert analysis.coverage == 0.0


def test_an_open_input_is_fixed_by_the_id(tmp_path):
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    path = tmp_path / "open.onnx"
    onnx.save(
        model(nodes, [("x", ("n", 3, "h", "w_"))], [("y", ("n", 4, "h", "w_"))], [weight]), path
    )
    assert analyze_onnx(str(path), [(1, 3, 8, 8)]).macs == 4 * 64 * 27
    with pytest.raises(InputError, match="is open"):
        analyze_onnx(str(path))
    with pytest.raises(InputError, match="not"):
        analyze_onnx(str(path), [(1, 4, 8, 8)])


def test_what_is_no_onnx_file(tmp_path):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match=r"no\.onnx"):
        analyze_onnx(str(path))
    with pytest.raises(InputError, match="missing"):
        analyze_onnx(str(tmp_path / "missing.onnx"))
