"""Dense layers and blocks, and the stem of the PeleeNet family.

PeleeNet: Wang, Li and Ling, "Pelee: A Real-Time Object Detection System on Mobile Devices"
(arXiv 1804.06882; Robert-JunWang/PeleeNet). DenseNet: arXiv 1608.06993.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cspbench.models.blocks import BnActConv, Chain, ConvBnAct, activation, conv_chain
from cspbench.models.weights import damp, set_gain

#: Hidden width of squeeze-and-excitation on a dense layer (counts of the SE rows).
SE_HIDDEN = 16


class SqueezeExcite(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): scale the channels by a gate in (0, 1)."""

    def __init__(self, channels: int, hidden: int, act: str = "leaky") -> None:
        super().__init__()
        self.out_channels = channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = ConvBnAct(channels, hidden, bn=False, act=act)
        self.excite = ConvBnAct(hidden, channels, bn=False, act="logistic")

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(self.squeeze(self.pool(x)))
        return x * gate


class TwoWayLayer(nn.Module):
    """PeleeNet's two-way dense layer: growth 2 x ``half``, receptive fields 3 and 5.

    ``group_width`` groups the 3x3 convolutions by that many channels (None: no groups). What the
    layer computes is returned without its input.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        half: int = 16,
        act: str = "leaky",
        group_width: int | None = None,
        se: bool = False,
    ) -> None:
        super().__init__()
        wide = hidden // group_width if group_width else 1
        narrow = half // group_width if group_width else 1
        self.out_channels = 2 * half

        def reduced() -> list[nn.Module]:
            return [
                ConvBnAct(in_channels, hidden, act=act),
                ConvBnAct(hidden, half, 3, groups=wide, act=act),
            ]

        self.a = Chain(reduced(), in_channels)
        last = ConvBnAct(half, half, 3, groups=narrow, act=act)
        self.b = Chain([*reduced(), last], in_channels)
        self.se = SqueezeExcite(2 * half, SE_HIDDEN, act) if se else None
        for branch in (self.a, self.b) if se else ():
            damp(branch, 2.0)  # seeded weights: a gate near 1/2 follows, so double their scale

    def forward(self, x: Tensor) -> Tensor:
        # Fig. 7 of the CSPNet paper draws branch b first.
        b = self.b(x)
        new = torch.cat([self.a(x), b], 1)
        return new if self.se is None else self.se(new)


class SingleLayer(Chain):
    """Bottleneck dense layer: 1x1 to ``hidden``, 3x3 to ``growth``."""

    def __init__(self, in_channels: int, hidden: int, growth: int, act: str = "leaky") -> None:
        super().__init__(
            [ConvBnAct(in_channels, hidden, act=act), ConvBnAct(hidden, growth, 3, act=act)],
            in_channels,
        )


class DenseBlock(nn.Sequential):
    """Layers that each read everything before them.

    ``make_layer`` builds one from its input channels; a layer returns only what is new. With
    ``new_first`` that comes first in each concatenation, as in Darknet's DenseNets.
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        make_layer: Callable[[int], nn.Module],
        *,
        new_first: bool = False,
    ) -> None:
        super().__init__()
        self.new_first = new_first
        for index in range(layers):
            layer = make_layer(in_channels)
            self.add_module(str(index), layer)
            in_channels += int(layer.out_channels)  # type: ignore[arg-type]
        self.out_channels = in_channels

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            new = layer(x)
            x = torch.cat([new, x] if self.new_first else [x, new], 1)
        return x


class SparseBlock(nn.Sequential):
    """Dense block in which layer i reads only the outputs i-1, i-2, i-4, i-8, ... (base = 0).

    Sparse connection pattern of arXiv 1801.05895; the block still puts out the base and all
    layers.
    """

    def __init__(
        self, in_channels: int, layers: int, make_layer: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        widths = [in_channels]
        self.reads: list[list[int]] = []
        for index in range(1, layers + 1):
            reads = [index - 2**k for k in range(index.bit_length()) if index >= 2**k]
            layer = make_layer(sum(widths[read] for read in reads))
            self.add_module(str(index - 1), layer)
            self.reads.append(sorted(reads))
            widths.append(int(layer.out_channels))  # type: ignore[arg-type]
        self.out_channels = sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer, reads in zip(self, self.reads, strict=True):
            inputs = [outputs[read] for read in reads]
            outputs.append(layer(inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)))
        return torch.cat(outputs, 1)


class PeleeStem(nn.Module):
    """Stride-4 stem: 3x3/2, then a pooled and a convolved branch, concatenated.

    ``pool_conv`` adds a 1x1 convolution to the pooled branch (CSPPeleeNet), ``fuse`` one of so many
    channels after the concatenation (PeleeNet: 32).
    """

    def __init__(self, act: str = "leaky", *, pool_conv: bool = False, fuse: int | None = 32):
        super().__init__()
        self.conv = ConvBnAct(3, 32, 3, 2, act=act)
        self.pool = nn.MaxPool2d(2, 2)
        self.pool_conv = ConvBnAct(32, 32, act=act) if pool_conv else None
        self.b = conv_chain(32, (16,), (32, 3, 2), act=act)
        self.fuse = ConvBnAct(64, fuse, act=act) if fuse else None
        self.out_channels = fuse or 64

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        pooled = self.pool(x)
        if self.pool_conv is not None:
            pooled = self.pool_conv(pooled)
        x = torch.cat([pooled, self.b(x)], 1)
        return x if self.fuse is None else self.fuse(x)


class ElasticLayer(nn.Module):
    """Elastic dense layer (allenai/elastic): two pre-activated bottlenecks, summed.

    Both read the same normalised input, the second at half the resolution (``pooled``), bilinearly
    upsampled again; height and width must then be even.
    """

    def __init__(
        self, in_channels: int, growth: int, *, act: str = "relu", pooled: bool = True
    ) -> None:
        super().__init__()
        hidden = 2 * growth
        self.out_channels = growth
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = activation(act)
        self.pool = nn.AvgPool2d(2, 2) if pooled else None
        self.low = _bottleneck(in_channels, hidden, growth, act)
        self.full = _bottleneck(in_channels, hidden, growth, act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        if self.act is not None:
            x = self.act(x)
        full: Tensor = self.full(x)
        if self.pool is None:
            low: Tensor = self.low(x)
        else:
            low = interpolate(self.low(self.pool(x)), scale_factor=2.0, mode="bilinear")
        return full + low


def _bottleneck(in_channels: int, hidden: int, growth: int, act: str) -> nn.Module:
    reduce = nn.Conv2d(in_channels, hidden, 1, bias=False)
    set_gain(reduce, act)
    return Chain([reduce, BnActConv(hidden, growth, 3, act=act)], in_channels)


def densenet_stem(act: str) -> nn.Module:
    """7x7/2 to 64 channels, 3x3/2 max-pool."""
    return Chain([ConvBnAct(3, 64, 7, 2, act=act), nn.MaxPool2d(3, 2, 1)], 3)


def normalise(channels: int, act: str) -> nn.Module:
    """The last normalisation and activation of a pre-activated network."""
    last = activation(act)
    return nn.Sequential(nn.BatchNorm2d(channels), *([] if last is None else [last]))
