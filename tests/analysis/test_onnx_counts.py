"""Counts of ONNX graphs by role: what is a weight, what a product costs, what engines fuse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cspbench.analysis.onnx_graph import analyze_onnx
from cspbench.errors import InputError

node = helper.make_node
FLOAT = TensorProto.FLOAT


def weight(name, shape, dtype=np.float32):
    """A tensor of distinct values."""
    count = int(np.prod(shape))
    return numpy_helper.from_array((np.arange(count) % 100).astype(dtype).reshape(shape), name)


def scalar(name):
    """The number 2."""
    return numpy_helper.from_array(np.array(2, np.float32), name)


def constant(tensor):
    """The same tensor as the value of a node."""
    return node("Constant", [], [tensor.name], value=tensor)


def save(path, nodes, tensors=(), shape=(1, 3, 8, 8), kind=FLOAT, opset=17, domains=()):
    """A graph from ``x`` to ``y``; returns its path."""
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)], list(tensors),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    onnx.save(model, path)
    return str(path)


@pytest.fixture
def counted(tmp_path):
    """Save a graph and analyse it."""

    def count(*arguments, **options):
        return analyze_onnx(save(tmp_path / "net.onnx", *arguments, **options))

    return count


CONV = node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])


def test_weights_in_constant_nodes_are_parameters(counted):
    # 16 filters of 3x3 over 3 channels, and 16 biases.
    tensors = [weight("w", (16, 3, 3, 3)), weight("b", (16,))]
    analysis = counted([*map(constant, tensors), CONV])
    assert (analysis.params, analysis.params_conv, analysis.weight_bytes) == (448, 432, 4 * 448)
    assert analysis.macs == 16 * 27 * 64
    assert sum(layer.params for layer in analysis.layers) == 448
    same = counted([CONV], tensors)
    assert same.totals == analysis.totals


def test_a_number_is_no_parameter_and_a_vector_is_one(counted):
    numbers = [weight("two", ()), weight("half", (1,)), weight("scale", (1, 3, 1, 1))]
    nodes = [node("Mul", ["x", "two"], ["a"]), node("Add", ["a", "half"], ["b"]),
             node("Mul", ["b", "scale"], ["y"])]  # fmt: skip
    assert counted(nodes, numbers).params == 3


def test_what_sets_an_operator_up_is_no_parameter(counted):
    tensors = [weight("scales", (4,)), weight("roi", (8,)),
               numpy_helper.from_array(np.array([0.0], np.float32), "least")]  # fmt: skip
    tensors[0] = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [node("Resize", ["x", "roi", "scales"], ["r"], mode="nearest"),
             node("Clip", ["r", "least"], ["y"])]  # fmt: skip
    assert counted(nodes, tensors).params == 0


@pytest.mark.parametrize(
    ("mode", "kernel"), [("nearest", ()), ("linear", (2, 2)), ("cubic", (4, 4))]
)
def test_an_interpolation_has_the_window_of_its_mode(counted, mode, kernel):
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    (layer,) = counted([node("Resize", ["x", "", "scales"], ["y"], mode=mode)], [scales]).layers
    assert (layer.op, layer.kernel) == ("interpolate", kernel)


def test_one_channel_and_one_slope_are_parameters(counted):
    tensors = [weight("w", (1, 3, 1, 1)), weight("b", (1,)), weight("slope", (1,))]
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("PRelu", ["c", "slope"], ["y"])]
    assert counted(nodes, tensors).params == 5


def test_a_shared_weight_counts_once_whatever_reads_it(counted):
    tensors = [weight("w", (3, 3, 1, 1)), numpy_helper.from_array(np.array([3, 3]), "flat")]
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Identity", ["w"], ["v"]),
             node("Conv", ["a", "v"], ["c"]), node("Reshape", ["w", "flat"], ["m"]),
             node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
             node("MatMul", ["t", "m"], ["y"])]  # fmt: skip
    analysis = counted(nodes, tensors)
    assert (analysis.params, analysis.params_conv) == (9, 9)
    assert analysis.macs == 3 * 9 * 64
    assert [layer.params for layer in analysis.layers if layer.kind != "copy"] == [9, 0, 0]


def test_a_weight_that_is_computed_of_two_counts_both(counted):
    # As weight normalisation writes it: a direction and a length for each filter.
    tensors = [weight("v", (4, 3, 1, 1)), weight("g", (4, 1, 1, 1))]
    nodes = [node("Mul", ["v", "g"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    assert counted(nodes, tensors).params == 16


def test_a_table_of_rows_is_a_parameter_of_which_the_rows_are_read(counted):
    tensors = [weight("table", (1000, 16))]
    analysis = counted([node("Gather", ["table", "x"], ["y"])], tensors, shape=(1, 7),
                       kind=TensorProto.INT64)  # fmt: skip
    assert analysis.params == 16000
    assert analysis.traffic_bytes == 7 * 8 + 2 * (7 * 16 * 4)  # ids, rows, result


def test_nodes_in_another_order_are_sorted(counted, tmp_path):
    tensors = [weight("w", (8, 3, 3, 3)), weight("b", (8,))]
    nodes = [node("Relu", ["c"], ["y"]),
             node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])]  # fmt: skip
    analysis = counted(nodes, tensors)
    assert analysis.macs == 8 * 27 * 64
    assert [layer.kind for layer in analysis.layers] == ["conv", "activation"]
    assert analysis.totals == counted(nodes[::-1], tensors).totals


def test_a_circle_and_a_name_that_nothing_makes_are_told(tmp_path):
    circle = [
        node("Add", ["x", "b"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    with pytest.raises(InputError, match="read each other in a circle"):
        analyze_onnx(save(tmp_path / "a.onnx", circle))
    with pytest.raises(InputError, match=r"\(Relu\) reads 'gone', which nothing makes"):
        analyze_onnx(save(tmp_path / "a.onnx", [node("Relu", ["gone"], ["y"])]))


SCALE = [numpy_helper.from_array(np.array(0.1, np.float32), "s"),
         numpy_helper.from_array(np.array(0, np.uint8), "z"),
         numpy_helper.from_array(np.full(8, 0.1, np.float32), "ws"),
         numpy_helper.from_array(np.zeros(8, np.int8), "wz")]  # fmt: skip
QUANTISED = [weight("w", (8, 3, 3, 3), np.int8), weight("b", (8,), np.int32), *SCALE]
#: x is quantised, convolved, and dequantised, in the three ways in which files write it.
WAYS = {
    "QLinearConv": [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["c"], pads=[1] * 4),
        node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ],
    "QDQ": [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=0),
        node("DequantizeLinear", ["b", "ws"], ["db"], axis=0),
        node("Conv", ["d", "dw", "db"], ["c"], pads=[1] * 4),
        node("QuantizeLinear", ["c", "s", "z"], ["qc"]),
        node("DequantizeLinear", ["qc", "s", "z"], ["y"]),
    ],
    "ConvInteger": [
        node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        node("ConvInteger", ["q", "w", "qz", "wz"], ["i"], pads=[1] * 4),
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Mul", ["qs", "ws1"], ["scale"]),
        node("Mul", ["f", "scale"], ["m"]),
        node("Add", ["m", "fb"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_quantised_convolution_counts_as_the_one_that_it_was_made_of(way, counted):
    tensors = [*QUANTISED, weight("fb", (1, 8, 1, 1)),
               numpy_helper.from_array(np.full((8, 1, 1), 0.1, np.float32), "ws1")]  # fmt: skip
    analysis = counted(WAYS[way], tensors)
    assert analysis.macs == 8 * 27 * 64
    assert (analysis.params, analysis.params_conv) == (8 * 27 + 8, 8 * 27)
    assert analysis.coverage == 100.0
    # Weights of a byte, biases of four; scales and zero points are no parameters.
    assert analysis.weight_bytes == 8 * 27 + 4 * 8
    assert analysis.bflops == pytest.approx(2 * 8 * 27 * 64 / 1e9)
    assert analysis.cio_conv == (3 + 8) * 64


def test_pairs_of_quantise_and_dequantise_move_what_the_integer_operators_move(counted):
    pairs, integer = (counted(WAYS[way], QUANTISED) for way in ("QDQ", "QLinearConv"))
    # The image is read in float and written in bytes; then bytes, weights, biases; then bytes.
    image, result, weights = 3 * 64, 8 * 64, 8 * 27 + 4 * 8
    assert pairs.traffic_bytes_fused == (4 + 1) * image + (image + weights + result) + 5 * result
    assert integer.traffic_bytes_fused == pairs.traffic_bytes_fused
    assert pairs.traffic_bytes > integer.traffic_bytes  # one operator after the other


def test_a_dynamic_product_is_one_with_its_scale_and_its_bias(counted):
    tensors = [*QUANTISED, weight("fb", (1, 8, 1, 1)),
               numpy_helper.from_array(np.full((8, 1, 1), 0.1, np.float32), "ws1")]  # fmt: skip
    analysis = counted(WAYS["ConvInteger"], tensors)
    convolution = next(layer for layer in analysis.layers if layer.kind == "conv")
    # Bytes in, weights of a byte, floats out; the sums between are of the same size.
    moved = convolution["traffic_bytes_fused"]
    assert moved == 3 * 64 + 8 * 27 + 4 * 8 * 64
    folded = [layer.op for layer in analysis.layers if not layer["traffic_bytes_fused"]]
    assert folded == ["cast", "mul", "add"]


def test_products_of_quantised_matrices(counted):
    tensors = [weight("w", (16, 5), np.int8), *SCALE,
               numpy_helper.from_array(np.array(0, np.int8), "wz0")]  # fmt: skip
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             node("QLinearMatMul", ["q", "s", "z", "w", "s", "wz0", "s", "z"], ["p"]),
             node("DequantizeLinear", ["p", "s", "z"], ["y"])]  # fmt: skip
    static = counted(nodes, tensors, shape=(2, 16))
    assert (static.macs, static.params) == (2 * 16 * 5, 80)
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
             node("MatMulInteger", ["q", "w", "qz", "wz0"], ["i"]),
             node("Cast", ["i"], ["f"], to=FLOAT), node("Mul", ["f", "qs"], ["y"])]  # fmt: skip
    dynamic = counted(nodes, tensors, shape=(2, 16))
    assert (dynamic.macs, dynamic.params) == (2 * 16 * 5, 80)


def test_operators_of_onnx_runtimes_quantiser(counted):
    tensors = [*QUANTISED, weight("k", (1, 3, 1, 1), np.uint8)]
    add = node(
        "QLinearAdd", ["q", "s", "z", "k", "s", "z", "s", "z"], ["a"], domain="com.microsoft"
    )
    pool = node("QLinearGlobalAveragePool", ["a", "s", "z", "s", "z"], ["p"], channels_last=0,
                domain="com.microsoft")  # fmt: skip
    cat = node("QLinearConcat", ["s", "z", "a", "s", "z", "a", "s", "z"], ["c"], axis=1,
               domain="com.microsoft")  # fmt: skip
    sigmoid = node("QLinearSigmoid", ["c", "s", "z", "s", "z"], ["g"], domain="com.microsoft")
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), add, pool, cat, sigmoid,
             node("DequantizeLinear", ["g", "s", "z"], ["y"])]  # fmt: skip
    analysis = counted(nodes, tensors, domains=["com.microsoft"])
    assert analysis.coverage == 100.0
    assert analysis.params == 3  # the vector that is added
    assert [layer.output_shapes[0] for layer in analysis.layers] == [
        (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 1, 1), (1, 6, 8, 8), (1, 6, 8, 8), (1, 6, 8, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "tensors", "shape", "why"),
    [
        ([node("Conv", ["x", "w"], ["y"])], [weight("w", (4, 5, 1, 1))], (1, 3, 8, 8),
         "has weights for 5 channels, and its input 1x3x8x8"),
        ([node("Conv", ["x", "w"], ["y"])], [weight("w", (4, 3, 9, 9))], (1, 3, 8, 8),
         "is too small for"),
        ([node("Reshape", ["x", "r"], ["y"])],
         [numpy_helper.from_array(np.array([1, 100]), "r")], (1, 3, 8, 8),
         "cannot give 1x3x8x8 the shape 1x100"),
        ([node("Gemm", ["x", "w"], ["y"])], [weight("w", (5, 2))], (1, 6),
         "Gemm"),
        ([node("Squeeze", ["x", "a"], ["y"])],
         [numpy_helper.from_array(np.array([2]), "a")], (1, 3, 8, 8), "Squeeze"),
        ([node("MatMul", ["x", "w"], ["y"])], [weight("w", (5, 2))], (1, 6), "MatMul"),
        ([node("Add", ["x", "w"], ["y"])], [weight("w", (5, 2))], (1, 6), "Add"),
    ],
)  # fmt: skip
def test_a_size_at_which_a_network_cannot_run_has_no_count(nodes, tensors, shape, why, counted):
    with pytest.raises(InputError, match=r"net\.onnx") as refused:
        counted(nodes, tensors, shape=shape)
    assert "cannot run on" in str(refused.value) or "cannot be inferred" in str(refused.value)
    assert why in str(refused.value)


def test_shapes_that_a_tool_left_behind_are_not_believed(tmp_path):
    """A file that was made at batch 1 says so of its middle; its input is open."""
    path = save(tmp_path / "a.onnx", [node("Relu", ["x"], ["m"]), node("Relu", ["m"], ["y"])],
                shape=("n", 3, 8, 8))  # fmt: skip
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, (1, 3, 8, 8)))
    onnx.save(model, path)
    analysis = analyze_onnx(path, [(4, 3, 8, 8)])
    assert {layer.output_shapes[0] for layer in analysis.layers} == {(4, 3, 8, 8)}


def test_a_product_whose_cost_is_unknown_is_an_error_and_never_nothing(counted, tmp_path):
    conv = node("Conv", ["m", "w"], ["y"])
    mystery = node("Mystery", ["x"], ["m"], name="odd", domain="d")
    with pytest.raises(InputError, match=r"the cost of a Conv is not known.*at d\.Mystery 'odd'"):
        counted([mystery, conv], [weight("w", (4, 3, 1, 1))], domains=["d"])
    inner = helper.make_graph(
        [node("Conv", ["x", "w"], ["b"])], "b", [],
        [helper.make_tensor_value_info("b", FLOAT, None)],
    )  # fmt: skip
    truth = node("ReduceMax", ["x"], ["r"], keepdims=0)
    both = [truth, node("Cast", ["r"], ["c"], to=TensorProto.BOOL),
            node("If", ["c"], ["y"], name="fork", then_branch=inner,
                 else_branch=inner)]  # fmt: skip
    with pytest.raises(InputError, match=r"the cost of If 'fork' is not known.*2 products"):
        counted(both, [weight("w", (4, 3, 1, 1))])


def test_a_branch_that_is_always_taken_is_followed(counted):
    """As the exporter of PyTorch writes ``squeeze`` of an axis."""
    inner = helper.make_graph(
        [constant(weight("w", (4, 3, 1, 1))), node("Conv", ["x", "w"], ["b"])], "b", [],
        [helper.make_tensor_value_info("b", FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Relu", ["x"], ["o"])], "o", [], [helper.make_tensor_value_info("o", FLOAT, None)]
    )
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "one"], ["d"]),
             node("Equal", ["d", "three"], ["c"]),
             node("If", ["c"], ["y"], then_branch=inner, else_branch=other)]  # fmt: skip
    numbers = [numpy_helper.from_array(np.array(value), name)
               for name, value in (("one", 1), ("three", 3))]  # fmt: skip
    analysis = counted(nodes, numbers)
    assert (analysis.macs, analysis.params) == (4 * 3 * 64, 12)


#: ONNX's own operator for an activation, and what exporters write for it.
ACTIVATIONS = {
    "swish": [node("Sigmoid", ["c"], ["g"]), node("Mul", ["c", "g"], ["y"])],
    "hard swish": [node("HardSigmoid", ["c"], ["g"]), node("Mul", ["c", "g"], ["y"])],
    "hard swish by Clip": [
        node("Add", ["c", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["g"]),
        node("Mul", ["c", "g"], ["m"]), node("Div", ["m", "six"], ["y"]),
    ],
    "mish": [
        node("Softplus", ["c"], ["p"]), node("Tanh", ["p"], ["t"]), node("Mul", ["c", "t"], ["y"]),
    ],
    "gelu": [
        node("Div", ["c", "three"], ["d"]), node("Erf", ["d"], ["e"]),
        node("Add", ["e", "six"], ["a"]), node("Mul", ["c", "a"], ["m"]),
        node("Mul", ["m", "three"], ["y"]),
    ],
    "one node": [node("LeakyRelu", ["c"], ["y"])],
}  # fmt: skip
NUMBERS = [numpy_helper.from_array(np.array(value, np.float32), name)
           for name, value in (("zero", 0), ("three", 3), ("six", 6))]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_of_several_nodes_is_fused_like_one(name, counted):
    tensors = [weight("w", (8, 3, 3, 3)), weight("b", (8,)), *NUMBERS]
    conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
    analysis = counted([conv, *ACTIVATIONS[name]], tensors)
    assert analysis.traffic_bytes_fused == 4 * (3 * 64 + 8 * 27 + 8 + 8 * 64)
    assert analysis.params == 8 * 27 + 8


@pytest.mark.parametrize(
    "nodes",
    [
        # A gate of squeeze and excitation is computed of means, not number by number.
        [node("GlobalAveragePool", ["c"], ["p"]), node("Sigmoid", ["p"], ["g"]),
         node("Mul", ["c", "g"], ["y"])],
        # Two branches that are joined are no activation where something else reads between them.
        [node("Sigmoid", ["c"], ["g"]), node("Mul", ["c", "g"], ["m"]),
         node("Concat", ["m", "g"], ["y"], axis=1)],
        # The doubled sum is a sum.
        [node("Add", ["c", "c"], ["y"])],
    ],
)  # fmt: skip
def test_what_is_no_activation_stays_apart(nodes, counted):
    tensors = [weight("w", (8, 3, 3, 3)), weight("b", (8,))]
    conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
    analysis = counted([conv, *nodes], tensors)
    assert analysis.layers[0]["traffic_bytes_fused"] == analysis.layers[0]["traffic_bytes"]


def test_recurrent_layers_are_their_products(counted):
    # 5 steps of 2 sequences; 4 gates of 6 from 3 features and from the state; two directions.
    tensors = [weight("w", (2, 24, 3)), weight("r", (2, 24, 6)), weight("b", (2, 48))]
    lstm = node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=6, direction="bidirectional")
    analysis = counted([lstm], tensors, shape=(5, 2, 3))
    assert analysis.macs == 2 * (5 * 2) * 24 * (3 + 6)
    assert analysis.params == 2 * (24 * 3 + 24 * 6 + 48)
    assert analysis.params_conv == 2 * (24 * 3 + 24 * 6)
    assert analysis.coverage == 100.0


def test_a_quantised_recurrent_layer_counts_as_the_one_that_it_was_made_of(counted):
    # Weights lie transposed: (directions, features, gates x hidden).
    tensors = [weight("w", (2, 3, 24), np.int8), weight("r", (2, 6, 24), np.int8),
               weight("b", (2, 48)), weight("s", (2, 24)),
               weight("z", (2, 24), np.int8)]  # fmt: skip
    read = ["x", "w", "r", "b", "", "", "", "", "s", "z", "s", "z"]
    lstm = node("DynamicQuantizeLSTM", read, ["y"], hidden_size=6, direction="bidirectional",
                domain="com.microsoft")  # fmt: skip
    analysis = counted([lstm], tensors, shape=(5, 2, 3), domains=["com.microsoft"])
    assert analysis.macs == 2 * (5 * 2) * 24 * (3 + 6)
    assert analysis.params == 2 * (24 * 3 + 24 * 6 + 48)


def test_nodes_without_names_are_called_what_they_are(counted):
    tensors = [weight("w", (8, 3, 3, 3)), weight("b", (8,)), weight("v", (8, 2))]
    nodes = [node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
             node("Relu", ["c"], ["r"]), node("Relu", ["r"], ["r2"], name="second"),
             node("GlobalAveragePool", ["r2"], ["p"], name="/head/pool/GlobalAveragePool"),
             node("Flatten", ["p"], ["f"]), node("MatMul", ["f", "v"], ["y"])]  # fmt: skip
    assert [layer.name for layer in counted(nodes, tensors).layers] == [
        "conv #1, 3x3, 3 to 8, 4x4", "relu #1, 8x4x4", "second", "head.pool", "flatten #1, 8",
        "linear #1, 8 to 2",
    ]  # fmt: skip


def test_shape_arithmetic_of_an_older_version_is_followed(counted):
    """Unsqueeze had its axes as an attribute before version 13."""
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
             node("Unsqueeze", ["n"], ["batch"], axes=[0]),
             node("Concat", ["batch", "rest"], ["target"], axis=0),
             node("Reshape", ["x", "target"], ["f"]), node("Gemm", ["f", "w"], ["y"])]  # fmt: skip
    numbers = [numpy_helper.from_array(np.array(value), name)
               for name, value in (("zero", 0), ("rest", [-1]))]  # fmt: skip
    analysis = counted(nodes, [*numbers, weight("w", (192, 5))], shape=(2, 3, 8, 8), opset=11)
    assert analysis.layers[0].output_shapes == ((2, 192),)
    assert analysis.macs == 2 * 192 * 5


def test_numbers_for_each_channel_behind_a_convolution_fold_into_it(counted):
    """As Paddle writes a bias, a scale and a shift: operators of their own, with Identities."""
    plain = counted([CONV, node("HardSwish", ["y"], ["z"])],
                    [weight("w", (16, 3, 3, 3)), weight("b", (16,))])  # fmt: skip
    tensors = [weight("w", (16, 3, 3, 3)), weight("c", (1, 16, 1, 1)),
               *map(scalar, "st")]  # fmt: skip
    nodes = [node("Conv", ["x", "w"], ["m"], pads=[1, 1, 1, 1]), node("Add", ["m", "c"], ["n"]),
             node("Identity", ["n"], ["i"]), node("Mul", ["i", "s"], ["o"]),
             node("Add", ["o", "t"], ["p"]), node("HardSwish", ["p"], ["q"]),
             node("Mul", ["q", "s"], ["y"])]  # fmt: skip
    apart = counted(nodes, tensors)
    # An image of 3 x 8 x 8, weights, 16 biases and a result of 16 x 8 x 8, of 4 bytes each.
    moved = 4 * (3 * 64 + 16 * 27 + 16 + 16 * 64)
    assert apart.totals["traffic_bytes_fused"] == plain.totals["traffic_bytes_fused"] == moved


def test_a_bias_that_is_added_to_a_product_is_the_products(counted):
    """As exporters write a linear layer on three axes; a second vector stays an addition."""
    tensors = [weight("w", (8, 5)), weight("b", (5,)), weight("c", (5,))]
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["b", "m"], ["y"])]
    moved = 4 * (2 * 3 * 8 + 8 * 5 + 5 + 2 * 3 * 5)
    assert counted(nodes, tensors, shape=(2, 3, 8)).totals["traffic_bytes_fused"] == moved
    twice = [*nodes, node("Add", ["y", "c"], ["z"])]
    more = counted(twice, tensors, shape=(2, 3, 8)).totals["traffic_bytes_fused"]
    assert more == moved + 4 * (2 * 3 * 5 + 5 + 2 * 3 * 5)


@pytest.mark.parametrize(
    "behind",
    [
        node("Mul", ["m", "map"], ["y"]),  # another number for each place
        node("Add", ["m", "m"], ["y"]),  # an activation, though the same
    ],
)
def test_what_is_no_number_for_each_channel_stays_an_operator(counted, behind):
    tensors = [weight("w", (4, 3, 1, 1)), weight("map", (1, 1, 8, 8))]
    nodes = [node("Conv", ["x", "w"], ["m"]), behind]
    analysis = counted(nodes, tensors)
    assert [layer.values["traffic_bytes_fused"] > 0 for layer in analysis.layers] == [True, True]
