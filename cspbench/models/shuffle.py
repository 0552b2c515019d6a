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


class ShuffleUnit(nn.Module):
    """Half of the channels passes, the other goes through 1x1, 5x5 depthwise, 1x1; shuffled."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.half = channels // 2
        self.out_channels = channels
        self.branch = _branch(channels - self.half, self.half, 1, act)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        merged = torch.cat([x[:, : self.half], self.branch(x[:, self.half :])], 1)
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
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        shuffled: Tensor = self.shuffle(torch.cat([self.skip(x), self.branch(x)], 1))
        return shuffled
