"""Fusion models of the CSPNet paper: exact (EFM) and global (GFM).

EFM is read off the paper's Fig. 7, drawn for CSPPeleeNet at 416: 24 of its 37 head entries are
certain, the middle ones are the most regular layers of the measured heights. GFM has no drawing
with numbers: it is a working definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct, PartialAdd, conv_chain, upsample
from cspbench.models.detector import det
from cspbench.models.yolo import SpatialPyramidPool

#: Widths at strides 32 (first layers), 16 and 8; below 32 the later layers have 128.
TOP, WIDE, NARROW = 256, 128, 64


class Maxout(nn.Module):
    """Largest of ``factor`` channels (Darknet's maxpool_depth): no weights, fewer channels.

    Output channel ``o`` is the maximum over the inputs ``o``, ``o + out``, ``o + 2 out``, ...
    The pool is written as one over the channel groups, so the paper's convention counts it.
    """

    def __init__(self, in_channels: int, target: int) -> None:
        super().__init__()
        factor = -(-in_channels // target)
        while in_channels % factor:
            factor += 1
        self.factor = factor
        self.out_channels = in_channels // factor
        self.pool = nn.MaxPool2d((factor, 1)) if factor > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is None:
            return x
        height, width = int(x.shape[2]), int(x.shape[3])
        size = self.out_channels * height * width
        pooled: Tensor = self.pool(x.reshape(-1, 1, self.factor, size))
        return pooled.reshape(-1, self.out_channels, height, width)


class SpatialAttention(nn.Module):
    """Scale a map by the logistic of a 3x3 convolution of itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBnAct(channels, channels, 3, act="logistic")

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.conv(x)
        return x * weight


def _head(in_channels: int, width: int, act: str) -> tuple[Chain, ConvBnAct]:
    """1x1, 3x3, and the output layer."""
    return conv_chain(in_channels, (width,), (width, 3), act=act), det(width)


class EfmNeck(nn.Module):
    """Exact fusion model. Outputs: strides 8, 16, 32.

    ``spp`` pools after the first 3x3, ``sam`` is spatial attention on the finest map.
    """

    def __init__(
        self, channels: Sequence[int], act: str = "leaky", *, spp: bool = False, sam: bool = False
    ) -> None:
        super().__init__()
        c3, c4, c5 = channels
        top: list[nn.Module] = [ConvBnAct(c5, TOP, act=act), ConvBnAct(TOP, TOP, 3, act=act)]
        if spp:
            pools = SpatialPyramidPool(TOP)
            top += [pools, ConvBnAct(pools.out_channels, TOP, act=act)]
        self.top = Chain(top, c5)
        self.reduce5 = ConvBnAct(TOP, WIDE, act=act)
        self.max4 = Maxout(c4, WIDE)
        fused = WIDE + self.max4.out_channels
        self.fuse4 = conv_chain(fused, (WIDE,), (WIDE, 3), act=act)
        self.reduce4 = ConvBnAct(WIDE, NARROW, act=act)
        self.max3 = Maxout(c3, NARROW)
        lateral3 = self.max3.out_channels
        self.down3 = ConvBnAct(lateral3, NARROW, 3, 2, act=act)
        # The layers that Fig. 7 leaves open: stride 16, between the pyramid and the finest output.
        self.exact = conv_chain(2 * NARROW, (NARROW,), (NARROW, 3), act=act)
        self.gather = conv_chain(2 * NARROW, (WIDE,), (WIDE, 3), (NARROW,), (NARROW, 3), act=act)
        self.head3, self.det3 = _head(NARROW + lateral3, NARROW, act)
        self.attention = SpatialAttention(NARROW) if sam else None
        self.down4 = ConvBnAct(NARROW, WIDE, 3, 2, act=act)
        self.head4, self.det4 = _head(2 * WIDE, WIDE, act)
        self.down5 = ConvBnAct(WIDE, TOP, 3, 2, act=act)
        self.add5 = PartialAdd(TOP, TOP, act=act)
        self.head5, self.det5 = _head(TOP, WIDE, act)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        c3, c4, c5 = features
        p5 = self.top(c5)
        up = upsample(self.reduce5(p5))
        p4 = self.fuse4(torch.cat([up, self.max4(c4)], 1))
        low4 = self.reduce4(p4)
        lateral3 = self.max3(c3)
        x = self.exact(torch.cat([low4, self.down3(lateral3)], 1))
        x = self.gather(torch.cat([x, low4], 1))
        p3 = self.head3(torch.cat([upsample(x), lateral3], 1))
        if self.attention is not None:
            p3 = self.attention(p3)
        out3 = self.det3(p3)
        n4 = self.head4(torch.cat([self.down4(p3), p4], 1))
        out4 = self.det4(n4)
        n5 = self.head5(self.add5(self.down5(n4), p5))
        return [out3, out4, self.det5(n5)]


class GfmNeck(nn.Module):
    """Global fusion model: all scales meet at stride 16. Outputs: strides 8, 16, 32."""

    def __init__(self, channels: Sequence[int], act: str = "leaky") -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.top = conv_chain(c5, (TOP,), (TOP, 3), act=act)
        self.reduce5 = ConvBnAct(TOP, WIDE, act=act)
        self.max4 = Maxout(c4, WIDE)
        self.max3 = Maxout(c3, NARROW)
        self.pool3 = nn.MaxPool2d(2, 2)
        lateral4, lateral3 = self.max4.out_channels, self.max3.out_channels
        fused = WIDE + lateral4 + lateral3
        self.fuse = conv_chain(fused, (WIDE,), (WIDE, 3), act=act)
        self.reduce3 = ConvBnAct(WIDE, NARROW, act=act)
        self.head3, self.det3 = _head(NARROW + lateral3, NARROW, act)
        self.head4, self.det4 = _head(WIDE + lateral4, WIDE, act)
        self.pool5 = nn.MaxPool2d(2, 2)
        self.head5, self.det5 = _head(2 * WIDE, WIDE, act)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        c3, c4, c5 = features
        p5 = self.reduce5(self.top(c5))
        lateral4, lateral3 = self.max4(c4), self.max3(c3)
        fused = self.fuse(torch.cat([upsample(p5), lateral4, self.pool3(lateral3)], 1))
        out3 = self.det3(self.head3(torch.cat([upsample(self.reduce3(fused)), lateral3], 1)))
        out4 = self.det4(self.head4(torch.cat([fused, lateral4], 1)))
        out5 = self.det5(self.head5(torch.cat([self.pool5(fused), p5], 1)))
        return [out3, out4, out5]
