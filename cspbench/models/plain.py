"""Plain pool-and-convolve stages, as in Darknet's small networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cspbench.models.blocks import Chain, ConvBnAct
from cspbench.models.staged import Stage


def plain_stem(act: str) -> nn.Module:
    """3x3 convolution to 16 channels at full resolution."""
    return ConvBnAct(3, 16, 3, act=act)


def plain_stages(widths: Sequence[int], act: str) -> list[nn.Module]:
    """Stages of a 2x2 max-pool and one 3x3 convolution, after :func:`plain_stem`."""
    stages: list[nn.Module] = []
    channels = 16
    for width in widths:
        blocks = Chain([ConvBnAct(channels, width, 3, act=act)], channels)
        pool = nn.MaxPool2d(2, 2)
        stages.append(Stage(pool, blocks, None, base_channels=channels, out_channels=width))
        channels = width
    return stages
