"""Pelee's SSD head (Robert-JunWang/Pelee)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct, activation
from cspbench.models.detector import det
from cspbench.models.weights import damp

WIDTH = 256
#: Default boxes a cell: aspect ratios 1 (two sizes), 2, 3 and their inverses.
BOXES = 6
#: COCO and background.
CLASSES = 81


class PredictionBlock(nn.Module):
    """Residual block with a projected shortcut: 1x1 128, 3x3 128, 1x1 256, plus 1x1 256."""

    def __init__(self, in_channels: int, act: str) -> None:
        super().__init__()
        half = WIDTH // 2
        self.project = ConvBnAct(in_channels, WIDTH, act="linear")
        self.body = damp(
            Chain(
                [
                    ConvBnAct(in_channels, half, act=act),
                    ConvBnAct(half, half, 3, act=act),
                    ConvBnAct(half, WIDTH, act="linear"),
                ],
                in_channels,
            )
        )
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.project(x) + self.body(x)
        return total if self.act is None else self.act(total)


class Boxes(nn.Module):
    """Locations (24) and class scores (486) of every cell, by 1x1."""

    def __init__(self) -> None:
        super().__init__()
        self.locations = det(WIDTH, 4 * BOXES)
        self.classes = det(WIDTH, CLASSES * BOXES)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.locations(x), self.classes(x)]


class SsdNeck(nn.Module):
    """Six sources from C4, C5 and three further maps.

    Outputs: locations and class scores in turn, finest source first.
    """

    def __init__(self, channels: Sequence[int], act: str = "relu") -> None:
        super().__init__()
        _, c4, c5 = channels

        def extra(in_channels: int, hidden: int, *, strided: bool) -> Chain:
            # 10 -> 5 pixels by stride, then 5 -> 3 -> 1 without padding.
            last = ConvBnAct(
                hidden, WIDTH, 3, 2 if strided else 1, padding=int(strided), bn=False, act=act
            )
            return Chain([ConvBnAct(in_channels, hidden, bn=False, act=act), last], in_channels)

        self.extras = nn.ModuleList(
            [
                extra(c5, 256, strided=True),
                extra(WIDTH, 128, strided=False),
                extra(WIDTH, 128, strided=False),
            ]
        )
        widths = (c4, c5, WIDTH, WIDTH, WIDTH)
        self.predict = nn.ModuleList([PredictionBlock(width, act) for width in widths])
        self.boxes = nn.ModuleList([Boxes() for _ in range(len(widths) + 1)])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, c4, c5 = features
        maps = [c4, c5]
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        sources = [block(x) for block, x in zip(self.predict, maps, strict=True)]
        sources.insert(0, sources[0])
        return [out for head, x in zip(self.boxes, sources, strict=True) for out in head(x)]
