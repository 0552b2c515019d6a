"""Necks of the YOLOv3 kind: two scales, or three with a bottom-up path (PANet)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct, SamePool, conv_chain, upsample
from cspbench.models.detector import det

SPP_KERNELS = (5, 9, 13)


class TinyNeck(nn.Module):
    """YOLOv3-tiny's two scales (cfg/yolov3-tiny.cfg). Outputs: strides 32, 16."""

    def __init__(self, channels: Sequence[int], act: str = "leaky") -> None:
        super().__init__()
        _, c4, c5 = channels
        self.reduce5 = ConvBnAct(c5, 256, act=act)
        self.conv5 = ConvBnAct(256, 512, 3, act=act)
        self.det5 = det(512)
        self.reduce4 = ConvBnAct(256, 128, act=act)
        self.conv4 = ConvBnAct(128 + c4, 256, 3, act=act)
        self.det4 = det(256)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, c4, c5 = features
        x = self.reduce5(c5)
        out5 = self.det5(self.conv5(x))
        x = torch.cat([upsample(self.reduce4(x)), c4], 1)
        return [out5, self.det4(self.conv4(x))]


class TwoScaleNeck(nn.Module):
    """The YOLOv3 and FPN heads of the PRN comparison. Outputs: strides 32, 16.

    The finer scale concatenates the upsampled map (128) with C4; ``wide_det`` lets its output layer
    read that concatenation beside the 3x3's map (the YOLOv3 head of Fig. 7).
    """

    def __init__(
        self, channels: Sequence[int], act: str = "leaky", *, wide_det: bool = True
    ) -> None:
        super().__init__()
        _, c4, c5 = channels
        self.reduce5 = ConvBnAct(c5, 256, act=act)
        self.conv5 = ConvBnAct(256, 256, 3, act=act)
        self.det5 = det(256)
        self.reduce4 = ConvBnAct(256, 128, act=act)
        self.conv4 = ConvBnAct(128 + c4, 128, 3, act=act)
        self.wide_det = wide_det
        self.det4 = det(256 + c4 if wide_det else 128)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, c4, c5 = features
        x = self.conv5(self.reduce5(c5))
        out5 = self.det5(x)
        merged = torch.cat([upsample(self.reduce4(x)), c4], 1)
        x = self.conv4(merged)
        return [out5, self.det4(torch.cat([x, merged], 1) if self.wide_det else x)]


class SpatialPyramidPool(nn.Module):
    """Max-pools of 13, 9 and 5 beside the input, concatenated: four times the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = (len(SPP_KERNELS) + 1) * channels
        self.pools = nn.ModuleList([SamePool(kernel) for kernel in SPP_KERNELS])

    def forward(self, x: Tensor) -> Tensor:
        pooled = [pool(x) for pool in self.pools]
        return torch.cat([*reversed(pooled), x], 1)


def alternating(in_channels: int, width: int, convs: int, act: str) -> Chain:
    """1x1 to ``width``, 3x3 to twice that, and so on: ``convs`` convolutions."""
    pair = ((width, 1), (2 * width, 3))
    return conv_chain(in_channels, *(pair[index % 2] for index in range(convs)), act=act)


def panet_width(c5: int) -> int:
    """Width at stride 32: half of C5, at most 512, rounded down to a power of two.

    The configurations have 512 for C5 of 1024 and 2048; below, it is our scaling of their rule.
    """
    return min(512, 1 << (max(c5 // 2, 8).bit_length() - 1))


class PanNeck(nn.Module):
    """PANet as in cs*-panet-spp.cfg. Outputs: strides 8, 16, 32.

    Without ``spp`` the pools and the 1x1 convolution after them are left out.
    """

    def __init__(self, channels: Sequence[int], act: str = "leaky", *, spp: bool = False) -> None:
        super().__init__()
        c3, c4, c5 = channels
        w5 = panet_width(c5)
        w4, w3 = w5 // 2, w5 // 4

        def head(width: int) -> Chain:
            return Chain([ConvBnAct(width, 2 * width, 3, act=act), det(2 * width)], width)

        before = alternating(c5, w5, 3, act)
        if spp:
            pools = SpatialPyramidPool(w5)
            self.top = Chain([before, pools, alternating(pools.out_channels, w5, 3, act)], c5)
        else:
            self.top = alternating(c5, w5, 5, act)
        self.up4 = ConvBnAct(w5, w4, act=act)
        self.lateral4 = ConvBnAct(c4, w4, act=act)
        self.mix4 = alternating(2 * w4, w4, 5, act)
        self.up3 = ConvBnAct(w4, w3, act=act)
        self.lateral3 = ConvBnAct(c3, w3, act=act)
        self.mix3 = alternating(2 * w3, w3, 5, act)
        self.out3 = head(w3)
        self.down4 = ConvBnAct(w3, w4, 3, 2, act=act)
        self.path4 = alternating(2 * w4, w4, 5, act)
        self.out4 = head(w4)
        self.down5 = ConvBnAct(w4, w5, 3, 2, act=act)
        self.path5 = alternating(2 * w5, w5, 5, act)
        self.out5 = head(w5)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        c3, c4, c5 = features
        p5 = self.top(c5)
        up = upsample(self.up4(p5))
        p4 = self.mix4(torch.cat([self.lateral4(c4), up], 1))
        up = upsample(self.up3(p4))
        p3 = self.mix3(torch.cat([self.lateral3(c3), up], 1))
        out3 = self.out3(p3)
        n4 = self.path4(torch.cat([self.down4(p3), p4], 1))
        out4 = self.out4(n4)
        n5 = self.path5(torch.cat([self.down5(n4), p5], 1))
        return [out3, out4, self.out5(n5)]
