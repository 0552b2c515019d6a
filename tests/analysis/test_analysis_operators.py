"""Operators off the beaten track: each form of calling them is counted, by either level."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cspbench.analysis import ops
from cspbench.analysis.api import analyze


class Call(nn.Module):
    """A module that is one function of its input and its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def convnext(m, x):
    y = m.narrow_(F.gelu(m.wide(m.norm(m.depthwise(x).permute(0, 2, 3, 1)))))
    return x + (m.scale * y).permute(0, 3, 1, 2)


CASES = {
    "conv1d, padding same": (nn.Conv1d(3, 8, 5, padding="same"), (2, 3, 16)),
    "conv3d": (nn.Conv3d(3, 4, 3, padding=1), (1, 3, 6, 6, 6)),
    "without a batch": (nn.Conv2d(3, 4, 3), (3, 8, 8)),
    "recurrent": (nn.GRU(4, 8, 2, bidirectional=True), (5, 1, 4)),
    "addmm": (Call(lambda m, x: torch.addmm(m.b, x, m.w), b=nn.Parameter(torch.ones(4)),
                   w=nn.Parameter(torch.ones(3, 4))), (2, 3)),
    "times a parameter": (Call(lambda m, x: x @ m.w, w=nn.Parameter(torch.ones(3, 4))), (2, 3)),
    "a parameter times": (Call(lambda m, x: m.w @ x, w=nn.Parameter(torch.ones(4, 3))), (3, 2)),
    "a view of a filter as a matrix": (
        Call(lambda m, x: torch.mm(x, m.w.view(4, -1).t()), w=nn.Parameter(torch.ones(4, 2, 3, 3))),
        (5, 18),
    ),
    "a matrix for each of a batch": (
        Call(lambda m, x: torch.bmm(x, m.w), w=nn.Parameter(torch.ones(3, 5, 7))), (3, 2, 5)
    ),
    "one matrix for a batch": (
        Call(lambda m, x: torch.bmm(m.w.expand(3, 7, 5), x), w=nn.Parameter(torch.ones(7, 5))),
        (3, 5, 2),
    ),
    "a parameter added to a product": (
        Call(lambda m, x: torch.baddbmm(m.b, x, x.transpose(1, 2)), b=nn.Parameter(torch.ones(1))),
        (3, 2, 5),
    ),
    "a product added to an input": (
        Call(lambda m, x: torch.addmm(x, m.w, x), w=nn.Parameter(torch.ones(2, 2))), (2, 7)
    ),
    "einsum": (Call(lambda m, x: torch.einsum("bid,bjd->bij", x, x).softmax(-1)), (2, 5, 4)),
    "a filter made of the input": (
        Call(lambda m, x: F.conv2d(x, m.g(x.mean((2, 3))).view(4, 3, 3, 3)), g=nn.Linear(3, 108)),
        (1, 3, 8, 8),
    ),
    "layer scale, channels last": (
        Call(convnext, depthwise=nn.Conv2d(8, 8, 7, padding=3, groups=8), norm=nn.LayerNorm(8),
             wide=nn.Linear(8, 32), narrow_=nn.Linear(32, 8), scale=nn.Parameter(torch.ones(8))),
        (1, 8, 6, 6),
    ),
    "checkpointed": (
        Call(lambda m, x: torch.utils.checkpoint.checkpoint(m.c, x, use_reentrant=False),
             c=nn.Conv2d(3, 4, 3)),
        (1, 3, 8, 8),
    ),
    "shuffles, mirrors, gates": (
        nn.Sequential(nn.Conv2d(3, 16, 1), nn.PixelShuffle(2), nn.ChannelShuffle(2),
                      nn.ReflectionPad2d(1), nn.GLU(1), nn.InstanceNorm2d(2)),
        (1, 3, 8, 8),
    ),
    "activations": (
        nn.Sequential(nn.Hardsigmoid(), nn.Softplus(), nn.ELU(), nn.CELU(), nn.SELU(),
                      nn.Softsign(), nn.LogSigmoid(), nn.Tanhshrink(),
                      nn.Threshold(0, 1), nn.Hardswish(True)),
        (1, 3, 8, 8),
    ),
    "grid sampling": (
        Call(lambda m, x: F.grid_sample(
            x, F.affine_grid(torch.eye(2, 3)[None].to(x), x.shape, align_corners=False),
            align_corners=False)),
        (1, 3, 8, 8),
    ),
    "indices and maxima": (
        Call(lambda m, x: x.max(1).values + x.argmax(1).float() + x.topk(2, 1)[0].sum(1)),
        (1, 3, 8, 8),
    ),
    "promotion of types": (Call(lambda m, x: x * torch.arange(8) + x.double().sum()), (1, 8)),
    "iteration": (Call(lambda m, x: sum(row for row in x) / len(x)), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_form_is_counted_and_known(case):
    module, shape = CASES[case]
    x = torch.rand(shape)
    analysis = analyze(module, x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = module.eval()(x)
    assert analysis.flops == counter.get_total_flops()
    assert analysis.coverage == 100.0
    assert sum(layer.params for layer in analysis.layers) == analysis.params
    if isinstance(expected, torch.Tensor):
        assert analysis.layers[-1].output_shapes[0] == tuple(expected.shape)


@torch.library.custom_op("cspbench_test::twisted_conv", mutates_args=())
def twisted_conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, weight).flip(-1)


@twisted_conv.register_fake
def _(x, weight):
    return F.conv2d(x, weight)


def test_an_operator_of_another_library_can_be_taught():
    module = Call(lambda m, x: twisted_conv(x, m.w), w=nn.Parameter(torch.ones(4, 3, 3, 3)))
    assert analyze(module, (1, 3, 8, 8), cache=False).coverage == 0.0
    try:
        ops.register("twisted_conv", "conv", saved="in")
        analysis = analyze(module, (1, 3, 8, 8), cache=False)
    finally:
        ops.OPS.pop("twisted_conv", None)
    assert analysis.coverage == 100.0
    assert analysis.macs == 4 * 36 * 27
    assert analysis.params_conv == 108
    with pytest.raises(ValueError, match="families"):
        ops.register("twisted_conv", "convolution")
