"""Necks of the YOLOv3 kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cspbench.models.blocks import ConvBnAct, upsample
from cspbench.models.detector import det


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
