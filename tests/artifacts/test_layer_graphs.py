"""Networks cut into layers: which nodes a layer has, when two are the same, and that each runs."""

import numpy as np
import pytest

from cspbench.artifacts.layer_graphs import layer_graphs

onnx = pytest.importorskip("onnx")
FLOAT = 1


def write(path, nodes, inputs, outputs, weights, opset=17):
    """A network; shapes by name."""
    from onnx import helper, numpy_helper

    def values(shapes):
        return [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()]

    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def weight(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.fixture
def network(tmp_path):
    """Two equal convolutions, one with leaky ReLU and one with swish; their concatenation; add."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1] * 4),
        node("LeakyRelu", ["c1"], ["a1"], name="leaky", alpha=0.1),
        node("Conv", ["x", "w2"], ["c2"], name="second", pads=[1] * 4),
        node("Sigmoid", ["c2"], ["s2"], name="sigmoid"),
        node("Mul", ["c2", "s2"], ["a2"], name="times"),
        node("Concat", ["a1", "a2"], ["j"], name="join", axis=1),
        node("Relu", ["j"], ["j2"], name="relu"),
        node("Add", ["j", "j2"], ["y"], name="add"),
    ]
    weights = {"w1": weight(4, 3, 3, 3), "w2": weight(4, 3, 3, 3)}
    return write(tmp_path / "n.onnx", nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 8, 8, 8)}, weights)


def test_a_layer_is_a_node_and_the_activations_that_only_it_feeds(network):
    graphs = layer_graphs(network)
    # The ReLU behind the concatenation is beside another consumer of it: both outputs leave.
    assert [graph.nodes for graph in graphs] == [
        ("first", "leaky"), ("second", "sigmoid", "times"), ("join", "relu"), ("add",),
    ]  # fmt: skip
    assert [graph.shape for graph in graphs] == [(1, 3, 8, 8)] * 2 + [(1, 4, 8, 8), (1, 8, 8, 8)]
    assert [value.name for value in graphs[2].model.graph.output] == ["j", "j2"]


def test_every_layer_runs_alone_and_computes_what_it_did(network):
    session = pytest.importorskip("onnxruntime").InferenceSession
    image = weight(1, 3, 8, 8)
    (whole,) = session(str(network), providers=["CPUExecutionProvider"]).run(None, {"x": image})
    outputs = []
    for graph in layer_graphs(network):
        alone = session(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
        (only,) = alone.get_inputs()
        feed = {only.name: image if graph.nodes[0] in ("first", "second") else weight(*graph.shape)}
        outputs.append(alone.run(None, feed)[0])
    joined = np.concatenate(outputs[:2], axis=1)
    assert np.allclose(joined + np.maximum(joined, 0), whole, atol=1e-5)


def one_conv(tmp_path, name, *, pads=1, channels=4, act="Relu", opset=17, seed=0):
    from onnx import helper

    size = 8 + 2 * pads - 2
    nodes = [
        helper.make_node("Conv", ["x", "w"], [f"{name}_c"], name=name, pads=[pads] * 4),
        helper.make_node(act, [f"{name}_c"], ["y"], name=f"{name}/act"),
    ]
    weights = {"w": np.random.default_rng(seed).random((channels, 3, 3, 3), np.float32)}
    file = write(
        tmp_path / f"{name}.onnx", nodes, {"x": (1, 3, 8, 8)}, {"y": (1, channels, size, size)},
        weights, opset,
    )  # fmt: skip
    (graph,) = layer_graphs(file)
    return graph.key


def test_layers_are_the_same_by_operators_attributes_and_shapes(tmp_path):
    key = one_conv(tmp_path, "a")
    assert one_conv(tmp_path, "b", seed=1) == key  # neither names nor weights matter
    others = {
        one_conv(tmp_path, "c", pads=0),
        one_conv(tmp_path, "d", channels=5),
        one_conv(tmp_path, "e", act="Sigmoid"),
        one_conv(tmp_path, "f", opset=13),
    }
    assert len(others | {key}) == 5


def test_settings_count_and_weights_do_not(tmp_path):
    from onnx import helper

    def clipped(high):
        nodes = [
            helper.make_node("Add", ["x", "w"], ["s"], name="add"),
            helper.make_node("Clip", ["s", "", "high"], ["y"], name="clip"),
        ]
        weights = {"w": weight(1, 3, 8, 8), "high": np.float32(high).reshape(())}
        file = write(tmp_path / "c.onnx", nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 3, 8, 8)}, weights)
        (graph,) = layer_graphs(file)
        assert graph.nodes == ("add", "clip")
        return graph.key

    assert clipped(6) == clipped(6)
    assert clipped(6) != clipped(1)


def test_what_has_no_static_float_input_is_left_out(tmp_path):
    from onnx import helper

    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Add", ["s", "s"], ["t"], name="of integers"),
        helper.make_node("Cast", ["t"], ["f"], name="cast", to=FLOAT),
        helper.make_node("Mul", ["f", "f"], ["y"], name="of floats"),
    ]
    file = write(tmp_path / "i.onnx", nodes, {"x": (1, 3, 8, 8)}, {"y": (4,)}, {})
    assert [graph.nodes for graph in layer_graphs(file)] == [("of floats",)]


def test_weights_are_small_beside_what_is_read_and_written(tmp_path):
    """3x3, 8 to 8 channels: 576 weights. At 6x6 it moves 8 * 36 twice = 576, at 7x7 784."""
    from onnx import helper

    for size, small in ((6, False), (7, True)):
        node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1] * 4)
        shape = (1, 8, size, size)
        file = write(tmp_path / "n.onnx", [node], {"x": shape}, {"y": shape},
                     {"w": weight(8, 8, 3, 3)})  # fmt: skip
        assert [graph.small_weights for graph in layer_graphs(file)] == [small]
