"""A backend must compute the same function as the reference: how that is decided."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cspbench.artifacts.kinds.onnx import reference as onnx_reference
from cspbench.artifacts.reference import (
    Reference,
    judged_inputs,
    read_reference,
    usable,
    write_reference,
)
from cspbench.artifacts.tensors import input_pool
from cspbench.artifacts.torch_reference import torch_reference
from cspbench.errors import Unsupported
from cspbench.measure.agreement import (
    OWN_ERRORS,
    Disagreement,
    agree,
    check_agreement,
    relative_error,
    tolerance_of,
)


@pytest.fixture
def stored(tmp_path):
    """Save arrays as an artifact's reference; returns a function (arrays...) -> path."""

    def save(*arrays):
        np.savez(tmp_path / "reference.npz", *arrays)
        return tmp_path / "reference.npz"

    return save


def test_the_error_is_relative_to_the_largest_output():
    # Largest |error| is |0.5 - 0.4| = 0.1, largest |reference| is 4: 0.1 / 4 = 0.025.
    output, reference = np.array([1.0, -4.0, 0.5]), np.array([1.0, -4.0, 0.4])
    assert relative_error(output, reference) == pytest.approx(0.025)


def test_axes_of_size_one_may_be_missing():
    """OpenCV gives (1000, 1) where torch gives (1, 1000): the same numbers in the same order."""
    values = np.arange(6, dtype=np.float32)
    assert relative_error(values.reshape(6, 1), values.reshape(1, 6)) == 0.0


def test_an_output_of_nothing_but_zeros_agrees_with_zeros_only():
    zeros = np.zeros(3)
    assert relative_error(zeros, zeros) == 0.0
    assert relative_error(np.array([0.0, 1e-9, 0.0]), zeros) > 1.0


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (np.zeros((1, 3)), r"shape \(1, 3\), torch's has \(1, 2\)"),
        (np.array([[1.0, np.nan]]), "holds NaN or infinity"),
        (np.array([[1.0, np.inf]]), "holds NaN or infinity"),
    ],
)
def test_another_shape_and_values_that_are_no_numbers_disagree(output, said):
    with pytest.raises(Disagreement, match=said):
        relative_error(output, np.array([[1.0, 2.0]]))


def test_nothing_agrees_with_a_reference_that_is_not_finite():
    """Else a model whose activations overflow would agree with everything: NaN > x is false."""
    with pytest.raises(Unsupported, match="the output of torch itself holds NaN"):
        relative_error(np.array([1.0]), np.array([np.nan]))


def test_all_outputs_are_compared_and_the_worst_is_told(stored):
    first, second = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    # The second pair is the worst: 0.001 / 20 = 5e-5, the first has 0.00002 / 2 = 1e-5.
    outputs = [np.array([1.00002, 2.0]), np.array([10.0, 20.001])]
    found = check_agreement(outputs, stored(first, second))
    assert found.max_relative_error == pytest.approx(5e-5, rel=1e-3)
    assert found.tolerance == 1e-4


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("fp16", 1e-2), ("bf16", 5e-2)]
)
def test_the_tolerance_is_that_of_the_precision(stored, precision, tolerance):
    reference = stored(np.array([1.0]))
    within, beyond = np.array([1 + 0.9 * tolerance]), np.array([1 + 1.1 * tolerance])
    assert check_agreement([within], reference, precision).tolerance == tolerance
    with pytest.raises(Disagreement, match=r"differ from those of torch by .* \(allowed "):
        check_agreement([beyond], reference, precision)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_outputs_disagrees(stored, count):
    with pytest.raises(Disagreement, match=f"{count} outputs, torch has 2"):
        check_agreement([np.ones(1)] * count, stored(np.ones(1), np.ones(1)))


def test_outputs_are_paired_by_order(stored):
    small, large = np.array([1.0]), np.array([100.0])
    with pytest.raises(Disagreement):
        check_agreement([large, small], stored(small, large))


class Doubling:
    """Puts out twice what it reads, and ``wrong`` more where a number is negative."""

    def __init__(self, wrong=0.0):
        self.wrong = wrong

    def set_input(self, feed):
        self.feed = feed

    def run(self):
        self.result = 2 * self.feed + self.wrong * (self.feed < 0)

    def outputs(self):
        return [self.result]


def doubled(tmp_path, pool, **facts):
    outputs = [[2 * feed] for feed in judged_inputs(pool)]
    write_reference(tmp_path / "r.npz", Reference("the model", outputs, **facts))
    return tmp_path / "r.npz"


def after_first(session, pool):
    session.set_input(pool[0])
    session.run()
    return session


def test_several_inputs_are_compared_also_around_zero(tmp_path):
    pool = input_pool((1, 3, 4, 4), seed=0)
    path = doubled(tmp_path, pool)
    agreement = agree(after_first(Doubling(), pool), pool, path)
    assert (agreement.inputs, agreement.reference) == (3, "the model")
    assert agreement.max_relative_error == 0.0
    # On [0, 1) alone nothing would be seen.
    with pytest.raises(Disagreement, match="differ from those of the model by"):
        agree(after_first(Doubling(wrong=0.1), pool), pool, path)


def test_the_inputs_are_two_of_the_pool_and_one_around_zero():
    inputs = judged_inputs(input_pool((2, 50), seed=0))
    assert [float(one.min()) < 0 for one in inputs] == [False, False, True]
    assert all(np.abs(one).max() <= 1 for one in inputs)
    ids = np.array([[0, 1]])
    assert judged_inputs([ids, ids, ids])[2].tolist() == [[0, 1]]  # rows of a table stay
    first, second = judged_inputs([(ids, np.ones(2))] * 3)[2]
    assert first.tolist() == [[0, 1]]
    assert second.tolist() == [1, 1]


def test_nobody_must_agree_better_than_the_reference_with_itself(tmp_path):
    pool = input_pool((1, 3, 4, 4), seed=0)
    path = doubled(tmp_path, pool, own_error=0.003)
    agreement = agree(after_first(Doubling(wrong=0.02), pool), pool, path)
    assert agreement.tolerance == pytest.approx(OWN_ERRORS * 0.003)
    assert 0.001 < agreement.max_relative_error < 0.012
    with pytest.raises(Disagreement, match=r"by 0\.05\d* of the largest \(allowed 0\.012\)"):
        agree(after_first(Doubling(wrong=0.1), pool), pool, path)


@pytest.mark.parametrize(
    ("facts", "precision", "allowed"),
    [({}, "fp32", 1e-4), ({"numbers": "fp16"}, "fp32", 1e-2),
     ({"numbers": "int8"}, "fp32", 4 / 127),
     ({"numbers": "fp16"}, "bf16", 5e-2), ({"own_error": 1e-6}, "fp32", 1e-4),
     ({"own_error": 0.5}, "fp32", 2.0)],
)  # fmt: skip
def test_what_is_allowed(facts, precision, allowed):
    assert tolerance_of(Reference("r", [[]], **facts), precision) == pytest.approx(allowed)


def test_a_reference_is_read_as_it_was_written(tmp_path):
    outputs = [[np.ones(2), np.zeros((1, 3))], [np.ones(2) * 2, np.zeros((1, 3))]]
    write_reference(tmp_path / "r.npz", Reference("r", outputs, 0.25, "bf16", True))
    read = read_reference(tmp_path / "r.npz")
    assert (read.name, read.own_error, read.numbers, read.frozen) == ("r", 0.25, "bf16", True)
    assert [[one.tolist() for one in each] for each in read.outputs] == [
        [one.tolist() for one in each] for each in outputs
    ]


def test_inputs_for_which_the_model_puts_out_no_numbers_are_left_out():
    good, bad = [np.ones(2)], [np.array([np.nan, 1])]
    assert len(usable(Reference("r", [good, good, bad])).outputs) == 1
    assert len(usable(Reference("r", [good, good, good])).outputs) == 3


def save(path, nodes, tensors=()):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(tensors),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_the_reference_of_a_file_is_named_and_says_how_sure_it_is(tmp_path):
    """Small differences of large sums: a convolution that is optimised rounds otherwise."""
    node, rng = helper.make_node, np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((64, 3, 3, 3)).astype(np.float32), "w")
    mix = numpy_helper.from_array(rng.standard_normal((8, 64, 3, 3)).astype(np.float32), "v")
    large = numpy_helper.from_array(np.array(1e5, np.float32), "k")
    nodes = [node("Conv", ["x", "w"], ["a"], pads=[1] * 4), node("Add", ["a", "k"], ["b"]),
             node("Conv", ["b", "v"], ["c"], pads=[1] * 4), node("Sin", ["c"], ["y"])]  # fmt: skip
    inputs = judged_inputs(input_pool((1, 3, 8, 8), seed=0))
    unsure = onnx_reference(save(tmp_path / "a.onnx", nodes, [weight, mix, large]), inputs)
    assert unsure.name == "ONNX Runtime without optimisation"
    assert len(unsure.outputs) == 3
    assert unsure.own_error > 1e-4  # the sine of numbers around 1e6 keeps few digits
    sure = onnx_reference(
        save(tmp_path / "b.onnx", [node("Conv", ["x", "w"], ["y"])], [weight]), inputs
    )
    assert sure.own_error < 1e-5


def test_inputs_that_a_network_refuses_are_left_out(tmp_path):
    node = helper.make_node
    nodes = [node("Log", ["x"], ["l"]), node("ReduceMax", ["l"], ["m"], keepdims=0),
             node("Sub", ["l", "m"], ["y"])]  # fmt: skip
    inputs = judged_inputs(input_pool((1, 3, 8, 8), seed=0))
    found = usable(onnx_reference(save(tmp_path / "a.onnx", nodes), inputs))
    assert len(found.outputs) == 1  # the logarithm of a negative number is none


def test_a_module_that_is_no_function_of_its_input_is_compared_on_the_first_alone():
    class Random(torch.nn.Module):
        def forward(self, x):
            return x + torch.rand(1)

    inputs = judged_inputs(input_pool((1, 3, 8, 8), seed=0))
    first = [np.ones((1, 3, 8, 8), np.float32)]
    assert len(torch_reference(Random(), first, inputs, frozen=False).outputs) == 1


def test_a_module_is_compared_with_itself_without_onednn():
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 8, 3).eval()
    inputs = judged_inputs(input_pool((1, 3, 8, 8), seed=0))
    with torch.no_grad():
        first = [module(torch.from_numpy(inputs[0])).numpy()]
    found = torch_reference(module, first, inputs, frozen=False)
    assert len(found.outputs) == 3
    assert found.own_error < 1e-5
    assert len(torch_reference(module, first, inputs, frozen=True).outputs) == 1
