"""A view of a weight is a view: its shape is what the product sees, its parameters count once."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from cspbench.analysis.api import analyze
from tests.analysis.counted import Call, assert_counted, param


class Standardised(nn.Conv2d):
    """Weight standardisation as NFNet and BiT have it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * 0.1).view(-1)
        weight = F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0)
        weight = weight.reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def blur(m, x):
    x = F.pad(m.c(x), (1, 1, 1, 1), mode="reflect")
    return F.conv2d(x, m.f.expand(x.shape[1], -1, -1, -1), stride=2, groups=x.shape[1])


def fused_attention(m, x):
    q, k, v = (F.linear(x, w, b) for w, b in zip(m.w.chunk(3), m.b.chunk(3), strict=True))
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


CONV = (1, 4, 8, 12)
CASES = {
    "expanded": (
        Call(lambda m, x: F.conv2d(x, m.w.expand(4, 1, 3, 3), groups=4), w=param(1, 1, 3, 3)),
        CONV,
    ),
    "a filter of a buffer, expanded": (
        Call(blur, {"f": torch.rand(1, 1, 3, 3)}, c=nn.Conv2d(4, 16, 1)),
        CONV,
    ),
    "a bias, expanded": (
        Call(lambda m, x: F.conv2d(x, m.w, m.b.expand(6)), w=param(6, 4, 3, 3), b=param(1)),
        CONV,
    ),
    "fewer channels out": (Call(lambda m, x: F.conv2d(x, m.w[:2]), w=param(8, 4, 3, 3)), CONV),
    "fewer channels in": (Call(lambda m, x: F.conv2d(x, m.w[:, :4]), w=param(8, 6, 3, 3)), CONV),
    "the middle of a window": (
        Call(lambda m, x: F.conv2d(x, m.w[:, :, 2:5, 2:5]), w=param(6, 4, 7, 7)),
        CONV,
    ),
    "a window turned": (
        Call(lambda m, x: F.conv2d(x, m.w.transpose(2, 3)), w=param(6, 4, 3, 5)),
        CONV,
    ),
    "a window in another memory format": (
        Call(lambda m, x: F.conv2d(x, m.w.permute(0, 3, 1, 2)), w=param(6, 3, 5, 4)),
        CONV,
    ),
    "parts of the channels out": (
        Call(lambda m, x: [F.conv2d(x, w) for w in m.w.split(4)], w=param(12, 4, 1, 1)),
        CONV,
    ),
    "unbound": (
        Call(lambda m, x: [F.conv2d(x, w) for w in m.w.unbind()], w=param(3, 5, 4, 1, 1)),
        CONV,
    ),
    "one of a bank": (Call(lambda m, x: F.conv2d(x, m.w[1]), w=param(3, 6, 4, 3, 3)), CONV),
    "narrowed": (Call(lambda m, x: F.conv2d(x, m.w.narrow(0, 1, 2)), w=param(6, 4, 3, 3)), CONV),
    "the data of a parameter": (
        Call(lambda m, x: F.conv2d(x, m.w.data[:2]), w=param(6, 4, 3, 3)),
        CONV,
    ),
    "a detached parameter": (
        Call(lambda m, x: F.conv2d(x, m.w.detach()[:2]), w=param(6, 4, 3, 3)),
        CONV,
    ),
    "a new parameter of a view": (
        Call(
            lambda m, x: F.conv2d(x, nn.Parameter(m.w[:2], requires_grad=False)),
            w=param(6, 4, 3, 3),
        ),
        CONV,
    ),
    "transposed convolution": (
        Call(lambda m, x: F.conv_transpose2d(x, m.w.view(4, 6, 3, 3), stride=2), w=param(4, 54)),
        CONV,
    ),
    "a matrix as a filter of one point": (
        Call(lambda m, x: F.conv2d(x, m.w[..., None, None]), w=param(6, 4)),
        CONV,
    ),
    "standardised": (Standardised(4, 8, 3, padding=1, groups=2), CONV),
    "scaled, then cut": (
        Call(
            lambda m, x: F.conv2d(x, (m.w * m.s)[:2, :, 1:, 1:]),
            w=param(6, 4, 3, 3),
            s=param(6, 1, 1, 1),
        ),
        CONV,
    ),
    "rotated": (
        Call(lambda m, x: F.conv2d(x, torch.rot90(m.w, 1, (2, 3))), w=param(6, 4, 3, 5)),
        CONV,
    ),
    "a matrix turned": (Call(lambda m, x: F.linear(x, m.w.t()), w=param(4, 6)), (2, 4)),
    "a matrix by its attribute T": (Call(lambda m, x: F.linear(x, m.w.T), w=param(4, 6)), (2, 4)),
    "a part of a matrix": (Call(lambda m, x: F.linear(x, m.w[:4, :6]), w=param(8, 8)), (2, 6)),
    "a matrix of other sides": (
        Call(lambda m, x: F.linear(x, m.w.view(24, 4)), w=param(12, 8)),
        (2, 4),
    ),
    "queries, keys and values in one": (
        Call(fused_attention, w=param(12, 4), b=param(12)),
        (2, 5, 4),
    ),
    "times a part": (Call(lambda m, x: x @ m.w[:4, :3], w=param(8, 8)), (2, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_product_sees_the_view(name):
    module, shape = CASES[name]
    analysis = assert_counted(module, torch.rand(shape))
    assert sum(layer.params for layer in analysis.layers) == analysis.params


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_where_the_weights_are_on_meta(name):
    module, shape = CASES[name]
    expected = analyze(module, shape, cache=False)
    twin = analyze(_on_meta(module), shape, cache=False)
    assert (twin.macs, twin.params, twin.coverage) == (
        expected.macs,
        expected.params,
        expected.coverage,
    )
    assert [layer.output_shapes for layer in twin.layers] == [
        layer.output_shapes for layer in expected.layers
    ]


def _on_meta(module):
    import copy

    return copy.deepcopy(module).to("meta")


def test_a_product_of_two_parameters_is_counted_too():
    module = Call(
        lambda m, x: F.conv2d(x, (m.a @ m.b).view(6, 4, 3, 3)), a=param(6, 2), b=param(2, 36)
    )
    assert_counted(module, torch.rand(1, 4, 8, 8))


def test_an_expanded_filter_is_read_once():
    module = Call(lambda m, x: F.conv2d(x, m.w.expand(4, 1, 3, 3), groups=4), w=param(1, 1, 3, 3))
    layer = analyze(module, (1, 4, 8, 8), cache=False).layers[-1]
    assert layer.weight_shape == (4, 1, 3, 3)
    assert layer.weight_elements == 9
    assert layer.params == layer.params_conv == 9


def test_parts_of_a_parameter_count_it_once():
    module = Call(lambda m, x: [F.conv2d(x, w) for w in m.w.split(4)], w=param(12, 4, 1, 1))
    layers = [la for la in analyze(module, (1, 4, 8, 8), cache=False).layers if la.kind == "conv"]
    assert [layer.params for layer in layers] == [48, 0, 0]
    assert [layer.weight_elements for layer in layers] == [16, 16, 16]


def test_a_filter_of_the_data_beside_a_bias_of_the_module():
    def function(m, x):
        return F.conv2d(x, m.g(x.mean((2, 3))).view(6, 4, 3, 3), m.b)

    assert_counted(Call(function, g=nn.Linear(4, 216), b=param(6)), torch.rand(1, 4, 8, 8))


def test_an_axis_inserted_in_place_is_seen():
    def function(m, x):
        x = m.f(x)
        x.unsqueeze_(1)
        return m.c(x)

    assert_counted(Call(function, f=nn.Linear(8, 8), c=nn.Conv1d(1, 2, 3)), torch.rand(4, 8))
