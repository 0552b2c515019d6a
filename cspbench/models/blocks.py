"""Building blocks that every family shares.

Shapes are (batch, channels, height, width). Nothing here depends on the data, so an export at a
fixed input has only fixed shapes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from cspbench.models.weights import DAMPING, damp, set_gain

#: Slope of the negative half in Darknet's leaky ReLU.
LEAKY_SLOPE = 0.1


def activation(name: str) -> nn.Module | None:
    """Return the activation ``name``; None for ``linear``.

    Raises:
        ValueError: an unknown name.
    """
    if name == "linear":
        return None
    if name == "leaky":
        return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
    if name == "logistic":
        return nn.Sigmoid()
    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6, "swish": nn.SiLU, "mish": nn.Mish}
    if name not in kinds:
        raise ValueError(f"unknown activation {name!r}")
    return kinds[name](inplace=True)


class ConvBnAct(nn.Module):
    """Convolution, batch normalisation, activation: one ``[convolutional]`` of Darknet.

    ``padding`` defaults to half the kernel, so that stride 1 keeps the resolution. Without ``bn``
    the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: str = "leaky",
        bn: bool = True,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=not bn
        )
        set_gain(self.conv, act)
        self.bn = nn.BatchNorm2d(out_channels) if bn else None
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return x if self.act is None else self.act(x)


class Chain(nn.Sequential):
    """A sequence that knows the channels that it puts out."""

    def __init__(self, modules: Iterable[nn.Module], in_channels: int) -> None:
        super().__init__(*modules)
        self.out_channels = in_channels
        for module in self:
            self.out_channels = getattr(module, "out_channels", self.out_channels)


def conv_chain(in_channels: int, *convolutions: tuple[int, ...], act: str) -> Chain:
    """Convolutions one after another, each as (channels, kernel, stride); the last two may miss."""
    parts: list[nn.Module] = []
    channels = in_channels
    for out_channels, *shape in convolutions:
        parts.append(ConvBnAct(channels, out_channels, *shape, act=act))
        channels = out_channels
    return Chain(parts, in_channels)


class Classifier(nn.Module):
    """Global average pool, 1x1 convolution to the classes, softmax, as the paper counts it.

    ``conv_first`` puts the convolution before the pool (two of the public configurations do).
    Output: (batch, classes), each row sums to 1.
    """

    def __init__(self, in_channels: int, classes: int = 1000, *, conv_first: bool = False) -> None:
        super().__init__()
        self.conv_first = conv_first
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(in_channels, classes, 1)
        # Averages vary little: with a larger scale the probabilities differ enough to compare.
        set_gain(self.fc, "linear", scale=2.0)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.fc(x)) if self.conv_first else self.fc(self.pool(x))
        probabilities: Tensor = self.softmax(x.flatten(1))
        return probabilities


def upsample(x: Tensor, factor: int = 2) -> Tensor:
    """Nearest-neighbour upsampling by a whole factor."""
    return interpolate(x, scale_factor=float(factor), mode="nearest")


class PartialAdd(nn.Module):
    """Add the channels that two maps share; the result has the first map's channels.

    The partial residual connection of WongKinYiu/PartialResidualNetworks: Darknet's shortcut
    between layers of different width adds the overlap. It has no parameters and no BFLOPs.

    ``stride`` is the second map's resolution over the first one's; it is sampled, as Darknet does.
    """

    def __init__(
        self, channels: int, other_channels: int, *, stride: int = 1, act: str = "linear"
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.shared = min(channels, other_channels)
        self.widened = other_channels < channels
        self.narrowed = other_channels > channels
        self.stride = stride
        self.act = activation(act)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        if self.stride > 1:
            other = other[:, :, :: self.stride, :: self.stride]
        if self.narrowed:
            other = other[:, : self.shared]
        if self.widened:
            total = torch.cat([x[:, : self.shared] + other, x[:, self.shared :]], 1)
        else:
            total = x + other
        return total if self.act is None else self.act(total)


class Residual(nn.Module):
    """``act(body(x) + x)``, adding the channels that both have (see :class:`PartialAdd`).

    The branch ``body`` has ``out_channels``; seeded weights scale its last normalisation by
    ``damping``.
    """

    def __init__(
        self,
        body: nn.Module,
        in_channels: int,
        *,
        stride: int = 1,
        act: str = "linear",
        damping: float = DAMPING,
    ) -> None:
        super().__init__()
        self.body = damp(body, damping)
        self.out_channels = int(body.out_channels)  # type: ignore[arg-type]
        self.add = PartialAdd(self.out_channels, in_channels, stride=stride, act=act)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.add(self.body(x), x)
        return total


class SamePool(nn.Module):
    """Max-pool of stride 1 that keeps the resolution; an even kernel pads right and below."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.even = kernel % 2 == 0
        self.pool = nn.MaxPool2d(kernel, 1, 0 if self.even else kernel // 2)
        self.before, self.after = (kernel - 1) // 2, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        if self.even:
            sides = (self.before, self.after, self.before, self.after)
            x = pad(x, sides, value=float("-inf"))
        pooled: Tensor = self.pool(x)
        return pooled


class BnActConv(nn.Module):
    """Normalisation, activation, convolution: the pre-activation order of DenseNet."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, *, act: str = "relu"
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = activation(act)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        set_gain(self.conv, act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        if self.act is not None:
            x = self.act(x)
        convolved: Tensor = self.conv(x)
        return convolved
