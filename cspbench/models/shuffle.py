"""ShuffleNetV2 units with 5x5 depthwise convolutions (SNet of ThunderNet, arXiv 1903.11752)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct

KERNEL = 5


def _branch(in_channels: int, width: int, stride: int, act: str) -> Chain:
    return Chain(
        [
            ConvBnAct(in_channels, width, act=act),
            ConvBnAct(width, width, KERNEL, stride, groups=width, act="linear"),
            ConvBnAct(width, width, act=act),
        ],
        in_channels,
    )


class Shuffle(nn.Module):
    """Interleave the two halves of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        height, width = int(x.shape[2]), int(x.shape[3])
        halves = x.reshape(-1, 2, self.channels // 2, height * width)
        return halves.transpose(1, 2).reshape(-1, self.channels, height, width)


class ShuffleUnit(nn.Module):
    """Half of the channels passes, the other goes through 1x1, 5x5 depthwise, 1x1; shuffled."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.passed = channels // 2
        self.out_channels = channels
        self.branch = _branch(channels - self.passed, self.passed, 1, act)
        self.shuffle = Shuffle(channels)

    def forward(self, x: Tensor) -> Tensor:
        merged = torch.cat([x[:, : self.passed], self.branch(x[:, self.passed :])], 1)
        shuffled: Tensor = self.shuffle(merged)
        return shuffled


class ShuffleDown(nn.Module):
    """Stride 2: both branches read the whole input; shuffled."""

    def __init__(self, in_channels: int, channels: int, act: str) -> None:
        super().__init__()
        half = channels // 2
        self.out_channels = channels
        self.skip = Chain(
            [
                ConvBnAct(in_channels, in_channels, KERNEL, 2, groups=in_channels, act="linear"),
                ConvBnAct(in_channels, channels - half, act=act),
            ],
            in_channels,
        )
        self.branch = _branch(in_channels, half, 2, act)
        self.shuffle = Shuffle(channels)

    def forward(self, x: Tensor) -> Tensor:
        shuffled: Tensor = self.shuffle(torch.cat([self.skip(x), self.branch(x)], 1))
        return shuffled
