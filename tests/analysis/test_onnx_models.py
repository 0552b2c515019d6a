"""The networks that the onnx package brings along, counted by a few lines of shape inference."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper, shape_inference

from cspbench.analysis.onnx_graph import analyze_onnx

DATA = Path(onnx.__file__).parent / "backend/test/data"
LIGHT = DATA / "light"
MODELS = [*sorted(LIGHT.glob("light_*.onnx")),
          *sorted(DATA.glob("pytorch-converted/test_Conv[123]d*/model.onnx"))]  # fmt: skip


def independent(path):
    """MACs of convolutions and products, and elements of their weights and biases."""
    model = shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*graph.input, *graph.value_info, *graph.output)
    }
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in known:
            shapes[node.output[0]] = numpy_helper.to_array(known[node.input[0]]).tolist()
    shapes |= {name: list(tensor.dims) for name, tensor in known.items() if name not in shapes}
    macs, weights = 0, {}
    for node in graph.node:
        flags = {one.name: one.i for one in node.attribute}
        if node.op_type == "Conv":
            macs += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "Gemm":
            length = shapes[node.input[1]][1 if flags.get("transB") else 0]
            macs += math.prod(shapes[node.output[0]]) * length
        elif node.op_type == "MatMul":
            macs += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            weights[node.input[1]] = math.prod(shapes[node.input[1]])
    return macs, sum(weights.values())


def test_there_are_some():
    assert len(MODELS) >= 10


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_counts_of_the_packages_own_networks(path):
    analysis = analyze_onnx(str(path))
    macs, weights = independent(path)
    assert macs > 0
    assert (analysis.macs, analysis.params_conv) == (macs, weights)
    assert analysis.coverage == 100.0
    assert analysis.params >= weights


#: Published counts of parameters, in millions.
PUBLISHED = {"vgg19": 143.667, "resnet50": 25.557, "squeezenet": 1.235, "densenet121": 7.979}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name):
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this onnx has another set of networks")
    assert analyze_onnx(str(path)).params / 1e6 == pytest.approx(PUBLISHED[name], rel=0.005)
