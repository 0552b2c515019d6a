"""Blocks against plain torch functions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cspbench.models.blocks import PartialAdd, Residual, SamePool, activation, upsample
from cspbench.models.dense import DenseBlock, SingleLayer, SparseBlock
from cspbench.models.fusion import Maxout
from cspbench.models.residual import ElasticPair
from cspbench.models.shuffle import Shuffle
from cspbench.models.yolo import SpatialPyramidPool, panet_width


def ramp(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def test_partial_add_adds_the_overlap():
    x, wide, narrow = torch.ones(1, 2, 1, 1), ramp(1, 4, 1, 1), torch.full((1, 1, 1, 1), 5.0)
    assert PartialAdd(2, 4)(x, wide).flatten().tolist() == [1.0, 2.0]
    assert PartialAdd(2, 1)(x, narrow).flatten().tolist() == [6.0, 1.0]
    assert PartialAdd(2, 2)(x, x).flatten().tolist() == [2.0, 2.0]


def test_partial_add_samples_a_larger_map():
    # Every second pixel of rows and columns: 0, 2, 8, 10.
    total = PartialAdd(1, 1, stride=2)(torch.zeros(1, 1, 2, 2), ramp(1, 1, 4, 4))
    assert total.flatten().tolist() == [0.0, 2.0, 8.0, 10.0]


@pytest.mark.parametrize("kernel", [2, 3, 5, 13])
def test_same_pool_keeps_the_resolution(kernel):
    x = torch.randn(1, 2, 6, 7)
    before, after = (kernel - 1) // 2, kernel // 2
    padded = functional.pad(x, (before, after, before, after), value=float("-inf"))
    expected = functional.max_pool2d(padded, kernel, 1)
    assert torch.equal(SamePool(kernel)(x), expected)
    assert expected.shape == x.shape


def test_maxout_takes_channels_apart_by_the_output_width():
    # 4 -> 2: channels 0 and 2, 1 and 3.
    x = torch.tensor([1.0, 8.0, 5.0, 2.0]).reshape(1, 4, 1, 1)
    assert Maxout(4, 2)(x).flatten().tolist() == [5.0, 8.0]
    x = torch.randn(2, 12, 3, 5)
    expected = torch.stack(x.split(4, dim=1)).amax(0)
    assert torch.equal(Maxout(12, 4)(x), expected)


@pytest.mark.parametrize(("channels", "target", "out"), [(704, 128, 88), (97, 64, 1), (64, 64, 64)])
def test_maxout_divides_evenly(channels, target, out):
    assert Maxout(channels, target).out_channels == out


def test_shuffle_interleaves_halves():
    assert Shuffle(6)(ramp(1, 6, 1, 1)).flatten().tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    x = torch.randn(2, 8, 3, 5)
    assert torch.equal(Shuffle(8)(x), functional.channel_shuffle(x, 2))


def test_pyramid_order_is_the_configurations():
    x = torch.randn(1, 2, 8, 8)
    pools = [functional.max_pool2d(x, k, 1, k // 2) for k in (13, 9, 5)]
    assert torch.equal(SpatialPyramidPool(2)(x), torch.cat([*pools, x], 1))


@pytest.mark.parametrize(
    ("c5", "width"), [(2048, 512), (1024, 512), (704, 256), (640, 256), (512, 256), (320, 128)]
)
def test_panet_width(c5, width):
    assert panet_width(c5) == width


def test_sparse_block_reads_powers_of_two_back():
    block = SparseBlock(10, 9, lambda channels: SingleLayer(channels, 4, 2))
    # Layer i reads i-1, i-2, i-4, i-8; 0 is the base.
    assert block.reads[0] == [0]
    assert block.reads[3] == [0, 2, 3]
    assert block.reads[8] == [1, 5, 7, 8]
    # Layer 4 reads the base (10) and two outputs (2 each).
    assert block[3][0].conv.in_channels == 14
    assert block.out_channels == 10 + 9 * 2


def test_dense_block_orders_its_concatenation():
    def make(channels):
        return SingleLayer(channels, 4, 2)

    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(DenseBlock(3, 2, make).eval()(x)[:, :3], x)
    assert torch.equal(DenseBlock(3, 2, make, new_first=True).eval()(x)[:, -3:], x)


def test_elastic_pair_works_on_halves():
    pair = ElasticPair(4, lambda channels: SingleLayer(channels, 2, channels)).eval()
    x = torch.randn(1, 4, 4, 4)
    low = upsample(pair.low(functional.max_pool2d(x[:, 2:], 2)))
    assert torch.equal(pair(x), torch.cat([pair.full(x[:, :2]), low], 1))


def test_residual_adds_its_input():
    body = SingleLayer(3, 2, 3).eval()
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(Residual(body, 3)(x), body(x) + x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("leaky", lambda x: functional.leaky_relu(x, 0.1)),
        ("relu", torch.relu),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("swish", lambda x: x * torch.sigmoid(x)),
        ("mish", lambda x: x * torch.tanh(functional.softplus(x))),
        ("logistic", torch.sigmoid),
    ],
)
def test_activations(name, expected):
    x = torch.linspace(-8, 8, 101)
    torch.testing.assert_close(activation(name)(x.clone()), expected(x))


def test_unknown_activation():
    assert activation("linear") is None
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        activation("gelu")
