"""ResNet-18 with up-convolutions and centre heads ("Objects as Points", arXiv 1904.07850)."""

from __future__ import annotations

from torch import Tensor, nn

from cspbench.models.blocks import Chain, ConvBnAct, activation
from cspbench.models.detector import det
from cspbench.models.weights import damp, set_gain

WIDTHS = (64, 128, 256, 512)
UPS = (256, 128, 64)
HEAD = 64
#: Class heat map of COCO, box size, centre offset.
OUTPUTS = {"heat": 80, "size": 2, "offset": 2}


class ProjectedBlock(nn.Module):
    """ResNet's basic block with a 1x1 projection where width or resolution changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: str) -> None:
        super().__init__()
        self.out_channels = channels
        self.a = ConvBnAct(in_channels, channels, 3, stride, act=act)
        self.b = damp(ConvBnAct(channels, channels, 3, act="linear"))
        changes = stride > 1 or in_channels != channels
        self.project = (
            ConvBnAct(in_channels, channels, 1, stride, act="linear") if changes else None
        )
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.project is None else self.project(x)
        total: Tensor = self.b(self.a(x)) + shortcut
        return total if self.act is None else self.act(total)


class UpConv(nn.Module):
    """3x3 convolution, then a 4x4 transposed convolution of stride 2."""

    def __init__(self, in_channels: int, channels: int, act: str) -> None:
        super().__init__()
        self.out_channels = channels
        self.conv = ConvBnAct(in_channels, channels, 3, act=act)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False)
        set_gain(self.up, act)
        self.bn = nn.BatchNorm2d(channels)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.up(self.conv(x)))
        return y if self.act is None else self.act(y)


class CenterNet(nn.Module):
    """Outputs at stride 4: class heat map (80), box size (2), centre offset (2), all raw."""

    def __init__(self, act: str = "relu") -> None:
        super().__init__()
        self.stem = Chain([ConvBnAct(3, 64, 7, 2, act=act), nn.MaxPool2d(3, 2, 1)], 3)
        stages: list[nn.Module] = []
        channels = 64
        for index, width in enumerate(WIDTHS):
            first = ProjectedBlock(channels, width, 2 if index else 1, act)
            stages.append(Chain([first, ProjectedBlock(width, width, 1, act)], channels))
            channels = width
        self.stages = nn.ModuleList(stages)
        ups: list[nn.Module] = []
        for width in UPS:
            ups.append(UpConv(channels, width, act))
            channels = width
        self.ups = Chain(ups, WIDTHS[-1])

        def head(outputs: int) -> nn.Module:
            return Chain(
                [ConvBnAct(channels, HEAD, 3, bn=False, act=act), det(HEAD, outputs)], channels
            )

        self.heads = nn.ModuleDict({name: head(outputs) for name, outputs in OUTPUTS.items()})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = self.ups(x)
        return tuple(head(x) for head in self.heads.values())
