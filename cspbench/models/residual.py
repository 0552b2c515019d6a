"""Residual branches of Darknet's networks, and the elastic form of a branch.

ResNet: arXiv 1512.03385; ResNeXt: arXiv 1611.05431; elastic: arXiv 1812.05262 (allenai/elastic).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct, Residual, conv_chain, upsample
from cspbench.models.weights import damp

#: Scale of an elastic branch in seeded weights: its maximum raises the mean of what it reads.
ELASTIC_DAMPING = 0.1


def dark_block(channels: int, hidden: int, act: str) -> Residual:
    """DarkNet-53's block: 1x1 to ``hidden``, 3x3 back, linear sum."""
    return Residual(conv_chain(channels, (hidden,), (channels, 3), act=act), channels)


def basic_block(in_channels: int, channels: int, act: str, stride: int = 1) -> Residual:
    """ResNet's basic block: two 3x3, sum, activation."""
    body = Chain(
        [
            ConvBnAct(in_channels, channels, 3, stride, act=act),
            ConvBnAct(channels, channels, 3, act="linear"),
        ],
        in_channels,
    )
    return Residual(body, in_channels, stride=stride, act=act)


def bottleneck_block(
    in_channels: int, hidden: int, channels: int, act: str, *, stride: int = 1, groups: int = 1
) -> Residual:
    """ResNet's bottleneck: 1x1, 3x3, linear 1x1, sum, activation.

    The shortcut has no projection: Darknet adds the channels that both have.
    """
    body = bottleneck_body(in_channels, hidden, channels, act, stride=stride, groups=groups)
    return Residual(body, in_channels, stride=stride, act=act)


def bottleneck_body(
    in_channels: int, hidden: int, channels: int, act: str, *, stride: int = 1, groups: int = 1
) -> Chain:
    """The branch of :func:`bottleneck_block`."""
    return Chain(
        [
            ConvBnAct(in_channels, hidden, act=act),
            ConvBnAct(hidden, hidden, 3, stride, groups=groups, act=act),
            ConvBnAct(hidden, channels, act="linear"),
        ],
        in_channels,
    )


class ElasticPair(nn.Module):
    """One branch on each half of the channels, the second at half the resolution.

    ``make_body`` builds a branch from its input channels. Height and width must be even.
    """

    def __init__(self, channels: int, make_body: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.middle = channels // 2
        # Residual damps the branch that comes last; this one must not grow either.
        self.full = damp(make_body(self.middle), ELASTIC_DAMPING)
        self.pool = nn.MaxPool2d(2, 2)
        self.low = make_body(channels - self.middle)
        self.out_channels = int(self.full.out_channels) + int(self.low.out_channels)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        full = self.full(x[:, : self.middle])
        low = upsample(self.low(self.pool(x[:, self.middle :])))
        return torch.cat([full, low], 1)
