"""Inputs are the same bits on every machine; outputs are a flat list."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cspbench.artifacts.tensors import POOL_SIZE, as_list, input_pool, input_tensor


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def test_the_bits_of_an_input_never_change():
    """Fixed digests: another numpy, processor or system must give the same bits.

    Should one fail, the reference outputs of every stored artifact are wrong as well.
    """
    assert digest(input_tensor((1, 3, 8, 8), seed=0, index=0)) == "790900641083f238"
    assert digest(input_tensor((1, 3, 8, 8), seed=0, index=1)) == "0dae0eb1e4062867"
    assert digest(input_tensor((2, 3, 5, 7), seed=42, index=3)) == "9675dbb867c5f7f7"


def test_the_generator_gives_the_published_known_answers():
    """Philox4x64-10 of Random123's ``kat_vectors``: counter 0, key 0. Numpy counts up first."""
    raw = np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)
    assert [f"{value:016x}" for value in raw] == [
        "16554d9eca36314c", "db20fe9d672d0fdc", "d7e772cee186176b", "7e68b68aec7ba23b",
    ]  # fmt: skip


def test_each_64_bit_number_gives_two_fractions_of_24_bits():
    # The first number of key 0 is 0x02f4ba6408e4d89b: low half 0x08e4d89b, high half 0x02f4ba64.
    # Their upper 24 bits: 0x08e4d8 = 582872 and 0x02f4ba = 193722, over 2**24.
    values = input_tensor((2,), seed=0, index=0)
    assert list(values) == [np.float32(582872 / 2**24), np.float32(193722 / 2**24)]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**31), st.integers(0, 9)
)
def test_values_lie_in_zero_to_one(shape, seed, index):
    array = input_tensor(tuple(shape), seed, index)
    assert array.shape == tuple(shape)
    assert array.dtype == np.float32
    assert array.min() >= 0.0
    assert array.max() < 1.0


def test_values_are_spread_evenly():
    # 30,000 uniform values: mean 0.5 +- 0.2887 / sqrt(30000) = 0.00167; six of them are 0.01.
    array = input_tensor((1, 3, 100, 100), seed=0, index=0)
    assert abs(array.mean() - 0.5) < 0.01
    counts = np.histogram(array, bins=10, range=(0, 1))[0]
    assert counts.min() > 2600
    assert counts.max() < 3400


def test_inputs_of_a_pool_differ_and_seeds_differ():
    pool = input_pool((1, 3, 16, 16), seed=5)
    other = input_pool((1, 3, 16, 16), seed=6)
    assert len(pool) == POOL_SIZE >= 2
    assert len({digest(array) for array in [*pool, *other]}) == 2 * POOL_SIZE


def test_a_shorter_input_is_the_beginning_of_a_longer_one():
    long, short = input_tensor((9,), 0, 0), input_tensor((4,), 0, 0)
    assert np.array_equal(long[:4], short)


@pytest.mark.parametrize(
    "nested",
    [
        lambda a, b, c: (a, b, c),
        lambda a, b, c: [a, (b, [c])],
        lambda a, b, c: {"x": a, "y": {"z": [b, c]}},
    ],
)
def test_outputs_are_flattened_in_order(nested):
    tensors = [torch.full((2,), float(number)) for number in range(3)]
    assert [tensor[0].item() for tensor in as_list(nested(*tensors))] == [0.0, 1.0, 2.0]


def test_one_tensor_is_a_list_of_one():
    tensor = torch.zeros(3)
    assert as_list(tensor)[0] is tensor
