"""The partial residual neck (WongKinYiu/PartialResidualNetworks)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cspbench.models.blocks import ConvBnAct, PartialAdd, upsample
from cspbench.models.detector import det


class Top(nn.Module):
    """Coarsest scale: 1x1, 3x3, residual, output. Returns the output and the 3x3's map."""

    def __init__(self, channels: int, width: int, act: str) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, width, act=act)
        self.conv = ConvBnAct(width, width, 3, act=act)
        self.add = PartialAdd(width, width, act=act)
        self.det = det(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.reduce(x)
        passed = self.conv(x)
        return self.det(self.add(passed, x)), passed


class Lower(nn.Module):
    """A finer scale: 1x1, upsample, add the lateral map, 3x3, add both again, output."""

    def __init__(self, channels: int, lateral: int, width: int, act: str) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, width, act=act)
        self.merge = PartialAdd(width, lateral, act=act)
        self.conv = ConvBnAct(width, width, 3, act=act)
        self.add = PartialAdd(width, width, act=act)
        self.add_lateral = PartialAdd(width, lateral, act=act)
        self.det = det(width)

    def forward(self, x: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        up = upsample(self.reduce(x))
        passed = self.conv(self.merge(up, lateral))
        return self.det(self.add_lateral(self.add(passed, up), lateral)), passed


class PrnNeck(nn.Module):
    """Two or three scales; widths 256 at stride 32 and 128 below.

    Outputs: raw maps, coarsest first.
    """

    def __init__(self, channels: Sequence[int], scales: int = 2, act: str = "leaky") -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.p5 = Top(c5, 256, act)
        self.p4 = Lower(256, c4, 128, act)
        self.p3 = Lower(128, c3, 128, act) if scales == 3 else None

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        c3, c4, c5 = features
        out5, passed = self.p5(c5)
        out4, passed = self.p4(passed, c4)
        if self.p3 is None:
            return [out5, out4]
        out3, _ = self.p3(passed, c3)
        return [out5, out4, out3]
