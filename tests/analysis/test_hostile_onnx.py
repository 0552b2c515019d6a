"""ONNX files that are small and would become large: every one costs little, or is refused."""

import sys

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cspbench.analysis import onnx_fold
from cspbench.analysis.onnx_graph import analyze_onnx
from cspbench.analysis.onnx_sizes import RESULT_SIZES
from cspbench.errors import InputError
from cspbench.models.sources.onnx_nodes import MAX_CALLS, MAX_NODES
from tests.spent import spent

MANY = 300_000_000
node = helper.make_node


def ints(name, values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def save(path, nodes, initializers=(), functions=(), opset=20, shape=(1, 3, 8, 8)):
    """An image and one activation, with ``nodes`` beside it."""
    graph = helper.make_graph(
        [*nodes, node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(initializers),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("d", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = 9
    onnx.save(model, path)
    return str(path)


def function(name, nodes):
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    return helper.make_function("d", name, ["a"], ["b"], nodes, opsets)


def calls(name, times, domain="d"):
    """A body that calls ``name`` so many times, one after the other."""
    names = ["a", *(f"t{number}" for number in range(times - 1)), "b"]
    return [node(name, [names[i]], [names[i + 1]], domain=domain) for i in range(times)]


def nested(depth, times):
    """Functions that call the one before ``times`` times; the last one's nodes are times^depth."""
    functions = [function("f0", calls("Relu", times, ""))]
    functions += [function(f"f{i}", calls(f"f{i - 1}", times)) for i in range(1, depth)]
    return functions, [node(f"f{depth - 1}", ["x"], ["q"], domain="d")]


#: A node that would make much of little, and its initializers.
LARGE_RESULTS = {
    "ConstantOfShape": (node("ConstantOfShape", ["s"], ["c"]), ints("s", [MANY])),
    "Expand": (node("Expand", ["o", "s"], ["c"]), ints("s", [MANY]), ints("o", [1])),
    "Tile": (node("Tile", ["o", "s"], ["c"]), ints("s", [MANY]), ints("o", [1])),
    "Range": (
        node("Range", ["z", "s", "o"], ["c"]), ints("z", 0), ints("s", MANY), ints("o", 1),
    ),
    "Pad": (node("Pad", ["o", "s"], ["c"]), ints("s", [0, MANY]), ints("o", [1])),
    "Resize": (node("Resize", ["o", "", "", "s"], ["c"]), ints("s", [MANY]), ints("o", [1])),
    "HammingWindow": (node("HammingWindow", ["s"], ["c"]), ints("s", MANY)),
    "Add": (
        node("Add", ["o", "s"], ["c"]),
        ints("o", np.ones((1000, 1))), ints("s", np.ones((1, 1000))),
    ),
    "Sum": (
        node("Sum", ["o", "s", "t"], ["c"]), ints("o", np.ones((1000, 1, 1))),
        ints("s", np.ones((1, 1000, 1))), ints("t", np.ones((1, 1, 1000))),
    ),
    "Gather": (
        node("Gather", ["o", "s"], ["c"]), ints("o", np.ones((1, 1000))),
        ints("s", np.zeros(1000)),
    ),
}  # fmt: skip


def test_no_result_of_folding_is_computed_to_see_how_large_it_is(tmp_path):
    files = [
        save(tmp_path / f"{name}.onnx", [large], initializers)
        for name, (large, *initializers) in LARGE_RESULTS.items()
    ]
    code = "import sys\nfrom cspbench.analysis.onnx_graph import analyze_onnx\n"
    code += "for file in sys.argv[1:]: print(analyze_onnx(file).coverage)"
    cost = spent(sys.executable, "-c", code, *files)
    assert cost.code == 0, cost.output
    assert len(cost.output.splitlines()) == len(files)
    assert cost.modest, cost


@pytest.mark.parametrize("name", LARGE_RESULTS)
def test_each_large_result_stays_in_the_graph(name, tmp_path, monkeypatch):
    large, *initializers = LARGE_RESULTS[name]
    monkeypatch.setattr(onnx_fold, "ReferenceEvaluator", None)  # it is not even asked
    model = onnx_fold.infer(onnx.load(save(tmp_path / "a.onnx", [large], initializers)))
    assert [left.op_type for left in model.graph.node] == [name, "Relu"]


def test_only_operators_of_shape_arithmetic_are_evaluated(tmp_path):
    texts = node("Constant", [], ["s"], value_strings=[b"a" * 28])
    slow = node("RegexFullMatch", ["s"], ["c"], pattern="(a+)+b")  # takes 2^28 steps
    analysis = analyze_onnx(save(tmp_path / "a.onnx", [texts, slow]))
    assert "RegexFullMatch" in analysis.unsupported


def test_indices_that_are_wrapped_one_round_at_a_time_are_not_followed(tmp_path):
    # numpy.choose, by which onnx evaluates it, would subtract 4 from 1e12 until it is below 4.
    gather = node("GatherElements", ["w", "w"], ["c"])
    analyze_onnx(save(tmp_path / "a.onnx", [gather], [ints("w", [10**12] * 4)]))


def test_folding_of_many_nodes_is_bounded(tmp_path):
    adds = [node("Add", ["o", "o"], [f"a{i}"]) for i in range(MAX_NODES - 10)]
    path = save(tmp_path / "a.onnx", adds, [ints("o", [1] * onnx_fold.MAX_ELEMENTS)])
    cost = spent(
        sys.executable, "-c", "import sys; from cspbench.analysis.onnx_graph import analyze_onnx; "
        "analyze_onnx(sys.argv[1])", path,
    )  # fmt: skip
    assert cost.code == 0, cost.output
    assert cost.modest, cost


def test_shape_arithmetic_of_exporters_is_folded(tmp_path):
    nodes = [
        node("Shape", ["x"], ["s"], start=2),
        node("Constant", [], ["two"], value_ints=[2]),
        node("Div", ["s", "two"], ["half"]),
        node("Shape", ["x"], ["all"]),
        node("Gather", ["all", "first"], ["head"]),
        node("Concat", ["head", "half", "half"], ["target"], axis=0),
        node("Cast", ["target"], ["t64"], to=TensorProto.INT64),
        node("Reshape", ["x", "t64"], ["r"]),
    ]
    path = save(tmp_path / "a.onnx", nodes, [ints("first", [0, 1])], shape=(1, 3, 8, 8))
    model = onnx_fold.infer(onnx.load(path))
    assert [left.op_type for left in model.graph.node] == ["Reshape", "Relu"]
    folded = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert folded["t64"].tolist() == [1, 3, 4, 4, 4, 4]


@pytest.mark.parametrize(("depth", "times"), [(20, 2), (6, 10), (90, 2)])
def test_nodes_of_functions_are_counted_before_they_are_inlined(depth, times, tmp_path):
    functions, nodes = nested(depth, times)
    path = save(tmp_path / "a.onnx", nodes, functions=functions)
    with pytest.raises(InputError, match=rf"nodes, more than the {MAX_NODES:,} allowed"):
        analyze_onnx(path)


def test_functions_in_branches_count_too(tmp_path):
    functions, (call,) = nested(14, 2)
    call = node(call.op_type, ["x"], ["b"], domain="d")
    branch = helper.make_graph(
        [call], "b", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    fork = node("If", ["c"], ["q"], then_branch=branch, else_branch=branch)
    truth = numpy_helper.from_array(np.array(True), "c")
    with pytest.raises(InputError, match="nodes, more than"):
        analyze_onnx(save(tmp_path / "a.onnx", [fork], [truth], functions))


def test_bytes_of_functions_are_counted_before_they_are_inlined(tmp_path):
    constant = node("Constant", [], ["k"], value=numpy_helper.from_array(np.zeros(250_000)))
    large = function("f", [constant, node("Relu", ["a"], ["b"])])
    names = ["x", *(f"q{i}" for i in range(600))]
    nodes = [node("f", [names[i]], [names[i + 1]], domain="d") for i in range(600)]
    with pytest.raises(InputError, match=r"would become [\d,]+ MiB once inlined"):
        analyze_onnx(save(tmp_path / "a.onnx", nodes, functions=[large]))


def test_functions_in_a_circle_and_in_a_long_chain(tmp_path):
    circle = [function("f0", calls("f1", 1)), function("f1", calls("f0", 2))]
    chain, _ = nested(MAX_CALLS + 2, 1)
    for functions, first in ((circle, "f0"), (chain, f"f{MAX_CALLS + 1}")):
        nodes = [node(first, ["x"], ["q"], domain="d")]
        path = save(tmp_path / "a.onnx", nodes, functions=functions)
        with pytest.raises(InputError, match="in a circle"):
            analyze_onnx(path)


def test_functions_of_an_ordinary_size_are_inlined(tmp_path):
    functions, nodes = nested(3, 4)
    analysis = analyze_onnx(save(tmp_path / "a.onnx", nodes, functions=functions))
    assert len(analysis.layers) == 4**3 + 1
    assert analysis.coverage == 100.0


@pytest.mark.parametrize("dims", [(2**40, 2**40), (2**62, 2**62), (-1, 4)])
def test_tensors_of_impossible_sizes(dims, tmp_path):
    weight = TensorProto(name="w", data_type=TensorProto.INT64, dims=dims, raw_data=bytes(8))
    path = save(tmp_path / "a.onnx", [node("Identity", ["w"], ["c"])], [weight])
    with pytest.raises(InputError, match=r"a\.onnx"):
        analyze_onnx(path)


def test_an_input_of_an_impossible_size(tmp_path):
    path = save(tmp_path / "a.onnx", [], shape=(1, 3, 2**40, 2**40))
    with pytest.raises(InputError, match=r"a\.onnx"):
        analyze_onnx(path)


@pytest.mark.parametrize(
    ("inputs", "said"), [(["x"] * 4, "has 4 inputs; it must have 1 to 1"), ([], "has 0 inputs")]
)
def test_a_node_with_too_many_inputs_does_not_end_the_process(inputs, said, tmp_path):
    # onnx's shape inference ends by a segmentation fault where such a node has four.
    with pytest.raises(InputError, match=said):
        analyze_onnx(save(tmp_path / "a.onnx", [node("RegexFullMatch", inputs, ["c"])]))


def numbers(length, low=0, high=4):
    return arrays.arrays(np.int64, length, elements=st.integers(low, high))


DATA = arrays.arrays(
    np.int64, arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
    elements=st.integers(0, 3),
)  # fmt: skip


def beside(x):
    """A tensor of a shape that broadcasts with that of ``x``."""
    shapes = arrays.broadcastable_shapes(x.shape, max_dims=3, max_side=4)
    return arrays.arrays(np.int64, shapes, elements=st.integers(0, 3))


#: Inputs of each kind of operator, from one tensor; most of them fit.
INPUTS = {
    "Add": lambda x: st.tuples(st.just(x), beside(x)),
    "Where": lambda x: st.tuples(st.just(x > 1), beside(x), beside(x)),
    "Concat": lambda x: st.tuples(st.just(x), st.just(x), st.just(x)),
    "ConstantOfShape": lambda _: st.tuples(numbers(3)),
    "Expand": lambda x: st.tuples(st.just(x), numbers(x.ndim + 1)),
    "Gather": lambda x: st.tuples(st.just(x), DATA),
    "NonZero": lambda x: st.tuples(st.just(x)),
    "Range": lambda _: st.tuples(*[numbers((), -5, 20)] * 3),
    "ReduceSum": lambda x: st.tuples(st.just(x)),
    "ScatterND": lambda x: st.tuples(
        st.just(x), numbers((2, 1), 0, 0), st.just(x[:1].repeat(2, 0))
    ),
    "Size": lambda x: st.tuples(st.just(x)),
    "Slice": lambda x: st.tuples(st.just(x), numbers(1), numbers(1)),
    "Tile": lambda x: st.tuples(st.just(x), numbers(x.ndim)),
    "Unsqueeze": lambda x: st.tuples(st.just(x), numbers(1, 0, 1)),
}


@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_result_is_larger_than_was_said_before(name, data):
    inputs = data.draw(DATA.flatmap(INPUTS[name]))
    axis = {"axis": 0} if name in ("Concat", "Gather") else {}
    operator = node(name, [f"i{number}" for number in range(len(inputs))], ["c"], **axis)
    try:
        results = ReferenceEvaluator(operator).run(
            None, dict(zip(operator.input, inputs, strict=True))
        )
    except Exception:  # such a node stays in the graph
        assume(False)
    assert sum(np.asarray(result).size for result in results) <= RESULT_SIZES[name](
        operator, inputs
    )
