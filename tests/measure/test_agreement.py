"""A backend must compute the same function as torch: how that is decided."""

import numpy as np
import pytest

from cspbench.measure.agreement import Disagreement, check_agreement, relative_error


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
        (np.zeros((1, 3)), r"shape \(1, 3\), torch has \(1, 2\)"),
        (np.array([[1.0, np.nan]]), "holds NaN or infinity"),
        (np.array([[1.0, np.inf]]), "holds NaN or infinity"),
    ],
)
def test_another_shape_and_values_that_are_no_numbers_disagree(output, said):
    with pytest.raises(Disagreement, match=said):
        relative_error(output, np.array([[1.0, 2.0]]))


def test_nothing_agrees_with_a_reference_that_is_not_finite():
    """Else a model whose activations overflow would agree with everything: NaN > x is false."""
    with pytest.raises(Disagreement, match="torch's own output holds NaN"):
        relative_error(np.array([1.0]), np.array([np.nan]))


def test_all_outputs_are_compared_and_the_worst_is_told(stored):
    first, second = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    # The second pair is the worst: 0.001 / 20 = 5e-5, the first has 0.00002 / 2 = 1e-5.
    outputs = [np.array([1.00002, 2.0]), np.array([10.0, 20.001])]
    found = check_agreement(outputs, stored(first, second), {})
    assert found.max_relative_error == pytest.approx(5e-5, rel=1e-3)
    assert found.tolerance == 1e-4


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-4),
        ({"precision": "fp32"}, 1e-4),
        ({"precision": "tf32"}, 1e-2),
        ({"precision": "fp16"}, 1e-2),
        ({"precision": "bf16"}, 5e-2),
    ],
)
def test_the_tolerance_is_that_of_the_precision(stored, options, tolerance):
    reference = stored(np.array([1.0]))
    within, beyond = np.array([1 + 0.9 * tolerance]), np.array([1 + 1.1 * tolerance])
    assert check_agreement([within], reference, options).tolerance == tolerance
    with pytest.raises(Disagreement, match=r"differ from torch's by .* \(allowed "):
        check_agreement([beyond], reference, options)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_outputs_disagrees(stored, count):
    with pytest.raises(Disagreement, match=f"{count} outputs, torch has 2"):
        check_agreement([np.ones(1)] * count, stored(np.ones(1), np.ones(1)), {})


def test_outputs_are_paired_by_order(stored):
    small, large = np.array([1.0]), np.array([100.0])
    with pytest.raises(Disagreement):
        check_agreement([large, small], stored(small, large), {})
