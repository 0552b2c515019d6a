"""Res2Net's block (arXiv 1904.01169) as in res2netlite72.cfg."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspbench.models.blocks import ConvBnAct
from cspbench.models.weights import damp


class Res2Block(nn.Module):
    """1x1, a hierarchy of grouped 3x3 over ``scales`` slices of the channels, 1x1, linear sum."""

    def __init__(self, channels: int, scales: int, groups: int, act: str) -> None:
        super().__init__()
        self.out_channels = channels
        self.scales = scales
        self.width = width = channels // scales
        self.reduce = ConvBnAct(channels, channels, act=act)
        self.convs = nn.ModuleList(
            [ConvBnAct(width, width, 3, groups=groups, act=act) for _ in range(scales - 1)]
        )
        self.expand = damp(ConvBnAct(channels, channels, act=act))

    def _slice(self, x: Tensor, index: int) -> Tensor:
        return x[:, index * self.width : (index + 1) * self.width]

    def forward(self, x: Tensor) -> Tensor:
        base = self.reduce(x)
        outputs = [self._slice(base, 0)]
        for index, conv in enumerate(self.convs, start=1):
            part = self._slice(base, index)
            outputs.append(conv(part if index == 1 else part + outputs[-1]))
        mixed: Tensor = self.expand(torch.cat(outputs, 1))
        return mixed + x
