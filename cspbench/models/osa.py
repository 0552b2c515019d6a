"""One-shot aggregation (VoVNet, arXiv 1904.09730)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspbench.models.blocks import ConvBnAct
from cspbench.models.weights import damp


class OneShot(nn.Module):
    """A row of 3x3 convolutions; input and all outputs are concatenated once, then mixed by 1x1."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        layers: int,
        act: str,
        *,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.identity = identity
        inputs = [in_channels] + [width] * (layers - 1)
        self.convs = nn.ModuleList([ConvBnAct(c, width, 3, act=act) for c in inputs])
        self.mix = ConvBnAct(in_channels + layers * width, out_channels, act=act)
        if identity:
            damp(self.mix)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for conv in self.convs:
            outputs.append(conv(outputs[-1]))
        mixed: Tensor = self.mix(torch.cat(outputs, 1))
        return mixed + x if self.identity else mixed
