"""Networks that differ from `base` by one known cause in one known stage, for explain_truth.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Conv(nn.Sequential):
    """A convolution, a norm and an activation."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1,
        act: Callable[[], nn.Module] = lambda: nn.LeakyReLU(0.1),
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = act()


class Block(nn.Module):
    """1x1 to ``width`` channels and 3x3 back, added to the input."""

    def __init__(self, channels: int, width: int, **options: Any) -> None:
        super().__init__()
        self.reduce = Conv(channels, width, 1, **options)
        self.conv = Conv(width, channels, 3, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(self.reduce(x))


class Stage(nn.Sequential):
    """A stride-2 convolution and blocks; ``more`` is put behind them."""

    def __init__(
        self, inputs: int, outputs: int, blocks: list[nn.Module] | None = None,
        more: list[nn.Module] | None = None, down: nn.Module | None = None,
    ) -> None:  # fmt: skip
        body = blocks or [Block(outputs, outputs // 2) for _ in range(2)]
        super().__init__(down or Conv(inputs, outputs, 3, 2), *body, *(more or []))


class Net(nn.Module):
    """Four stages: 64, 32, 16 and 8 pixels of a 256-pixel input's quarter, and a classifier."""

    def __init__(self, **changed: nn.Module) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, 2)
        self.stages = nn.Sequential(
            changed.get("first") or Stage(32, 64),
            changed.get("second") or Stage(64, 128),
            changed.get("third") or Stage(128, 256),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stages(self.stem(x)))


class CopyTwice(nn.Module):
    """A concatenation of the input with itself, of which half goes on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x], 1)[:, x.shape[1] // 2 : x.shape[1] * 3 // 2]


class Shuffle(nn.Module):
    """ShuffleNet's channel shuffle of two groups."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Turned(nn.Module):
    """A block whose input and output are turned by exchanging height and width."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x.transpose(2, 3)).transpose(2, 3)


class Separable(nn.Module):
    """A depthwise 3x3 and a 1x1 of equal width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = Conv(channels, channels, 3, groups=channels)
        self.pointwise = Conv(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


def base() -> nn.Module:
    """What all others are compared with: 0.73 GMACs at 256 pixels."""
    return Net()


def extra_1x1() -> nn.Module:
    """Six more 1x1 convolutions of equal width behind the second stage."""
    return Net(second=Stage(64, 128, more=[Conv(128, 128, 1) for _ in range(6)]))


def doubled() -> nn.Module:
    """A third block in the third stage."""
    return Net(third=Stage(128, 256, blocks=[Block(256, 128) for _ in range(3)]))


def copied() -> nn.Module:
    """Six concatenation copies behind the first stage."""
    return Net(first=Stage(32, 64, more=[CopyTwice() for _ in range(6)]))


def swish() -> nn.Module:
    """SiLU for leaky ReLU in the first stage."""
    blocks: list[nn.Module] = [Block(64, 32, act=nn.SiLU) for _ in range(2)]
    return Net(first=Stage(32, 64, blocks=blocks, down=Conv(32, 64, 3, 2, act=nn.SiLU)))


def shuffled() -> nn.Module:
    """Eight channel shuffles behind the first stage."""
    return Net(first=Stage(32, 64, more=[Shuffle() for _ in range(8)]))


def narrow() -> nn.Module:
    """The third stage at a quarter of the width inside its blocks, with four times the blocks."""
    return Net(third=Stage(128, 256, blocks=[Block(256, 32) for _ in range(8)]))


def depthwise() -> nn.Module:
    """Depthwise separable layers in the second stage, of about equal MACs: 9 for 2 blocks."""
    return Net(second=Stage(64, 128, blocks=[Separable(128) for _ in range(9)]))


def turned() -> nn.Module:
    """The first stage's blocks with height and width exchanged, and back, three times over."""
    blocks: list[nn.Module] = [Turned(Turned(Turned(Block(64, 32)))) for _ in range(2)]
    return Net(first=Stage(32, 64, blocks=blocks))


def late_stride() -> nn.Module:
    """The second stage halves its resolution behind three 1x1: more arithmetic."""
    down = nn.Sequential(*(Conv(64, 64, 1) for _ in range(3)), Conv(64, 128, 3, 2))
    return Net(second=Stage(64, 128, down=down))


def two_causes() -> nn.Module:
    """A third block in the third stage, and eight channel shuffles behind the first."""
    return Net(
        first=Stage(32, 64, more=[Shuffle() for _ in range(8)]),
        third=Stage(128, 256, blocks=[Block(256, 128) for _ in range(3)]),
    )
