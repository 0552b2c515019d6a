"""What PyTorch refuses to run, an analysis refuses too."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from cspbench.analysis.api import analyze
from tests.analysis.counted import Call, assert_refused, param


def call(function, **parts):
    return Call(lambda m, *inputs: function(*inputs), **parts)


IMAGE = torch.rand(1, 4, 8, 8)
ROWS = torch.rand(2, 4)
REFUSED = {
    "batch norm of other channels": (nn.BatchNorm2d(3), IMAGE),
    "batch norm without statistics": (call(lambda x: F.batch_norm(x, None, None)), IMAGE),
    "group norm of other channels": (nn.GroupNorm(2, 6), IMAGE),
    "group norm of groups that do not divide": (call(lambda x: F.group_norm(x, 3)), IMAGE),
    "instance norm of other channels": (nn.InstanceNorm2d(3, affine=True), IMAGE),
    "layer norm of other features": (nn.LayerNorm(6), ROWS),
    "layer norm with other weights": (call(lambda x: F.layer_norm(x, (4,), torch.ones(6))), ROWS),
    "rms norm of other features": (nn.RMSNorm(6), ROWS),
    "convolution of other channels": (nn.Conv2d(3, 4, 3), IMAGE),
    "convolution of integers": (nn.Conv2d(4, 4, 3), torch.zeros(1, 4, 8, 8, dtype=torch.uint8)),
    "convolution of another type": (nn.Conv2d(4, 4, 3).double(), IMAGE),
    "convolution with a bias of another size": (
        call(lambda x: F.conv2d(x, torch.ones(6, 4, 1, 1), torch.ones(4))),
        IMAGE,
    ),
    "convolution of groups that do not divide": (
        call(lambda x: F.conv2d(x, torch.ones(6, 1, 1, 1), groups=4)),
        IMAGE,
    ),
    "convolution with a filter of another rank": (
        call(lambda x: F.conv2d(x, torch.ones(6, 4, 1))),
        IMAGE,
    ),
    "convolution, padding same, with strides": (
        call(lambda x: F.conv2d(x, torch.ones(6, 4, 3, 3), stride=2, padding="same")),
        IMAGE,
    ),
    "convolution with strides of other dimensions": (
        call(lambda x: F.conv2d(x, torch.ones(6, 4, 3, 3), stride=(1, 1, 1))),
        IMAGE,
    ),
    "transposed convolution padded by more than a stride": (
        call(lambda x: F.conv_transpose2d(x, torch.ones(4, 6, 3, 3), output_padding=1)),
        IMAGE,
    ),
    "convolution with a window too large": (nn.Conv2d(4, 4, 9), IMAGE),
    "transposed convolution of other channels": (nn.ConvTranspose2d(3, 4, 3), IMAGE),
    "linear of other features": (nn.Linear(3, 4), ROWS),
    "linear of integers": (nn.Linear(4, 4), torch.ones(2, 4, dtype=torch.long)),
    "linear of another type": (nn.Linear(4, 4).double(), ROWS),
    "linear with a bias of another size": (
        call(lambda x: F.linear(x, torch.ones(6, 4), torch.ones(5))),
        ROWS,
    ),
    "mm of three dimensions": (call(lambda x: torch.mm(x, x)), torch.rand(2, 4, 4)),
    "bmm of other batches": (call(lambda x: torch.bmm(x, x[:1])), torch.rand(2, 4, 4)),
    "bmm of two dimensions": (call(lambda x: torch.bmm(x, x)), torch.rand(4, 4)),
    "product of other sides": (call(lambda x: x @ x), ROWS),
    "product of other types": (call(lambda x: x @ x.double().t()), ROWS),
    "attention of keys of another width": (
        call(F.scaled_dot_product_attention),
        torch.rand(1, 2, 5, 8),
        torch.rand(1, 2, 6, 16),
        torch.rand(1, 2, 6, 8),
    ),
    "attention of heads that do not divide": (
        call(F.scaled_dot_product_attention),
        torch.rand(1, 6, 5, 8),
        torch.rand(1, 4, 6, 8),
        torch.rand(1, 4, 6, 8),
    ),
    "attention with a mask of other sides": (
        call(lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(3, 3))),
        torch.rand(1, 2, 5, 8),
    ),
    "attention with a mask of integers": (
        call(lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(5, 5).long())),
        torch.rand(1, 2, 5, 8),
    ),
    "in place on an expanded tensor": (call(lambda x: F.relu_(x.expand(3, 4))), torch.rand(1, 4)),
    "a sum in place on an expanded tensor": (
        call(lambda x: x.expand(3, 4).add_(x)),
        torch.rand(1, 4),
    ),
    "a rare operator in place on an expanded tensor": (
        call(lambda x: x.expand(3, 4).erf_()),
        torch.rand(1, 4),
    ),
    "a sum in place that widens": (call(lambda x: x[:1].add_(x)), ROWS),
    "written parts of other sides": (
        call(lambda x: x.clone().__setitem__((slice(None), slice(2)), x)),
        ROWS,
    ),
    "sums of other sides": (call(lambda x: x + x[:, :3]), ROWS),
    "mean over a dimension that is not there": (call(lambda x: x.mean(2)), ROWS),
    "mean over a dimension twice": (call(lambda x: x.mean((0, 0))), ROWS),
    "softmax over a dimension that is not there": (call(lambda x: x.softmax(2)), ROWS),
    "concatenation along a dimension that is not there": (
        call(lambda x: torch.cat([x, x], 2)),
        ROWS,
    ),
    "concatenation of other ranks": (call(lambda x: torch.cat([x, x[0]])), ROWS),
    "a view of other elements": (call(lambda x: x.view(3, 3)), ROWS),
    "mirrored padding wider than the input": (
        call(lambda x: F.pad(x, (8, 0), mode="reflect")),
        IMAGE,
    ),
    "padding that takes more than there is": (call(lambda x: F.pad(x, (-9, 0))), IMAGE),
    "a pool that is padded by more than half": (nn.MaxPool2d(2, padding=2), IMAGE),
    "a pool with a window too large": (nn.AvgPool2d(9), IMAGE),
    "bilinear interpolation of three dimensions": (
        call(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
        torch.rand(1, 4, 8),
    ),
    "interpolation by size and factor": (
        call(lambda x: F.interpolate(x, size=4, scale_factor=2)),
        IMAGE,
    ),
    "recurrent layer of other features": (nn.LSTM(5, 6), torch.rand(3, 2, 4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_refuses_is_refused(name):
    module, *inputs = REFUSED[name]
    assert_refused(module, *inputs)


def test_torchs_own_reason_is_given():
    reason = assert_refused(nn.BatchNorm2d(3), IMAGE)
    assert "running_mean should contain 4 elements not 3" in reason


FINE = {
    "a bias of one number": call(lambda x: F.linear(x, torch.ones(6, 4), torch.ones(1))),
    "a lone bias": call(lambda x: F.linear(x, torch.ones(6, 4), torch.ones(()))),
    "an empty batch": call(lambda x: F.linear(x[:0], torch.ones(6, 4))),
    "expanded, then copied, then in place": call(lambda x: x.expand(2, 4).clone().relu_()),
    "one row expanded to one": call(lambda x: x[:1].expand(1, 4).relu_()),
    "an axis added in place to an expanded tensor": call(
        lambda x: x[:1].expand(3, 4).unsqueeze_(0)
    ),
    "a part written by one row": call(lambda x: x.clone().__setitem__(slice(1), x[None, :1])),
}


@pytest.mark.parametrize("name", FINE)
def test_what_torch_takes_is_taken(name):
    with torch.no_grad():
        FINE[name](ROWS.clone())
    assert analyze(FINE[name], (2, 4), cache=False).coverage == 100.0


def test_a_layer_norm_of_half_precision_with_full_weights_is_taken():
    module = call(lambda x: F.layer_norm(x, (4,), torch.ones(4)))
    with torch.no_grad():
        module(ROWS.bfloat16())
    assert analyze(module, (ROWS.bfloat16(),), cache=False).coverage == 100.0


def test_a_parameter_with_a_view_of_the_right_size_is_taken():
    module = Call(lambda m, x: F.layer_norm(x, (4,), m.w[:4]), w=param(6))
    assert analyze(module, (2, 4), cache=False).coverage == 100.0
