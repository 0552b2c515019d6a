"""The layers of a Darknet network as torch modules: one class per dataclass of ``ops``.

Geometry follows the map that arrives, so one module serves every input size at which the network
exists; exports with static shapes see constants only.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cspbench.models.sources.darknet import ops
from cspbench.models.sources.darknet.activations import activation
from cspbench.models.weights import GAINS, set_gain

_SHORTCUT_EPS = 1e-4  # Darknet adds it to the sum of normalised shortcut weights


def sizes(x: Tensor) -> tuple[int, ...]:
    """Shape in plain numbers: also while an exporter traces, so that geometry is constant."""
    return tuple(int(side) for side in x.shape)


def _set_gain(layer: nn.Module, act: str) -> None:
    set_gain(layer, act if act in GAINS else "linear")


class Blur(nn.Module):
    """Fixed anti-aliasing filter: binomial 3x3 (padded by one) or the mean of 2x2."""

    def __init__(self, side: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.line = [0.25, 0.5, 0.25] if side == 3 else [0.5, 0.5]
        self.stride = stride
        self.padding = 1 if side == 3 else 0

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, oh, ow)."""
        channels = sizes(x)[1]
        # Made here, not kept as a buffer: it is a constant, not something to seed or to load.
        line = torch.tensor(self.line, dtype=x.dtype, device=x.device)
        kernel = torch.outer(line, line).expand(channels, 1, -1, -1)
        return functional.conv2d(
            x, kernel, stride=self.stride, padding=self.padding, groups=channels
        )


class Conv(nn.Module):
    """Convolution, batch normalisation, activation, anti-aliasing.

    ``shared`` is another layer whose convolution and normalisation this one uses as well.
    """

    def __init__(self, op: ops.Convolution, channels: int, shared: Conv | None) -> None:
        super().__init__()
        self.op = op
        if shared is None:
            self.conv = nn.Conv2d(
                channels,
                op.filters,
                op.size,
                op.own_stride,
                op.padding * op.dilation,
                op.dilation,
                op.groups,
                bias=not op.batch_normalize,
            )
            self.bn = nn.BatchNorm2d(op.filters) if op.batch_normalize else nn.Identity()
            _set_gain(self.conv, op.activation)
        # A list keeps the shared layer out of this module's own parameters.
        self._shared = [] if shared is None else [shared]
        self.act = activation(op.activation)
        self.blur = Blur(op.blur, op.stride) if op.blur else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, filters, oh, ow)."""
        owner = self._shared[0] if self._shared else self
        own = not self._shared and not self.op.binary
        x = self.conv(x) if own else self._convolve(x, owner.conv)
        return cast(Tensor, self.blur(self.act(owner.bn(x))))

    def _convolve(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        op, weight = self.op, conv.weight
        if op.binary:
            mean = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
            weight = torch.where(weight > 0, mean, -mean)
        if op.binary == "xnor":
            x = (x > 0).to(x.dtype) * 2 - 1
        return functional.conv2d(
            x, weight, conv.bias, op.own_stride, op.padding * op.dilation, op.dilation, op.groups
        )


class Connected(nn.Module):
    """Linear layer over the flattened map; its output is (n, outputs, 1, 1)."""

    def __init__(self, op: ops.Connected, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, op.outputs, bias=not op.batch_normalize)
        _set_gain(self.linear, op.activation)
        self.bn = nn.BatchNorm1d(op.outputs) if op.batch_normalize else nn.Identity()
        self.act = activation(op.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, outputs, 1, 1)."""
        x = self.act(self.bn(self.linear(x.flatten(1))))
        return x[:, :, None, None]


class Local(nn.Module):
    """Locally connected layer; ``weight`` is (places, filters, c k k) as Darknet stores it."""

    def __init__(self, op: ops.Local, in_shape: ops.Shape, out_shape: ops.Shape) -> None:
        super().__init__()
        self.op = op
        filters, height, width = out_shape
        self.places = (height, width)
        fan_in = in_shape[0] * op.size**2
        self.weight = nn.Parameter(torch.randn(height * width, filters, fan_in) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(out_shape))
        # Seeding divides by all but the first dimension; the filters are no inputs.
        self.weight_gain = GAINS["leaky"] * filters**0.5
        self.act = activation(op.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, filters, oh, ow)."""
        op = self.op
        last_h, last_w = ((places - 1) * op.stride + op.size for places in self.places)
        batch, _, height, width = sizes(x)
        after_h, after_w = last_h - height - op.padding, last_w - width - op.padding
        x = functional.pad(x, (op.padding, after_w, op.padding, after_h))
        columns = functional.unfold(x, op.size, stride=op.stride).permute(2, 1, 0)
        y = torch.bmm(self.weight, columns).permute(2, 1, 0)  # (places, filters, n), turned
        return cast(Tensor, self.act(y.reshape(batch, *self.bias.shape) + self.bias))


class Pool(nn.Module):
    """Max or mean over windows, padded as Darknet does: the smaller half of the padding first.

    What lies outside the map does not count, neither in a maximum nor in a mean.
    """

    def __init__(self, op: ops.Pool) -> None:
        super().__init__()
        self.op = op
        self.pool = self._pooling(op, op.padding // 2)
        self.bare = self._pooling(op, 0)
        self.blur = Blur(op.blur, op.stride) if op.blur else nn.Identity()

    @staticmethod
    def _pooling(op: ops.Pool, padding: int) -> nn.Module:
        if op.average:
            return nn.AvgPool2d(op.size, op.own_stride, padding, count_include_pad=False)
        return nn.MaxPool2d(op.size, op.own_stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, oh, ow)."""
        padding = self._padding(x)
        if padding is None:
            return cast(Tensor, self.blur(self.pool(x)))
        if not self.op.average:
            x = functional.pad(x, padding, value=float("-inf"))
            return cast(Tensor, self.blur(self.bare(x)))
        inside = self.bare(functional.pad(torch.ones_like(x[:1, :1]), padding))
        return cast(Tensor, self.bare(functional.pad(x, padding)) / inside)

    def _padding(self, x: Tensor) -> tuple[int, int, int, int] | None:
        """(left, right, top, bottom), or None if equal padding gives the same windows."""
        op, before = self.op, self.op.padding // 2
        after, equal = [], True
        for side, stride in zip(sizes(x)[2:], op.own_stride, strict=True):
            steps = (side + op.padding - op.size) // stride
            equal = equal and (side + 2 * before - op.size) // stride == steps
            after.append(steps * stride + op.size - side - before)
        return None if equal else (before, after[1], before, after[0])


class DepthPool(nn.Module):
    """Maxout over channels g, g + n, g + 2n, ..."""

    def __init__(self, op: ops.DepthPool) -> None:
        super().__init__()
        self.out_channels = op.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, out_channels, h, w)."""
        first, *others = torch.split(x, self.out_channels, dim=1)
        for other in others:
            first = torch.maximum(first, other)
        return first


class Route(nn.Module):
    """Concatenation of (slices of) the sources."""

    def __init__(self, op: ops.Route) -> None:
        super().__init__()
        self.op = op

    def forward(self, *sources: Tensor) -> Tensor:
        """Maps of one size -> their channels one after another."""
        if self.op.groups > 1:
            sources = tuple(self._slice(source) for source in sources)
        return sources[0] if len(sources) == 1 else torch.cat(sources, 1)

    def _slice(self, x: Tensor) -> Tensor:
        part = sizes(x)[1] // self.op.groups
        return x[:, part * self.op.group_id : part * (self.op.group_id + 1)]


class Shortcut(nn.Module):
    """Sum of the layer before and of what overlaps of the sources, then an activation."""

    def __init__(self, op: ops.Shortcut, summands: int, channels: int) -> None:
        super().__init__()
        self.op = op
        if op.weights != "none":
            factors = 1 if op.weights == "per_feature" else channels
            self.weight = nn.Parameter(torch.ones(summands, factors))
            self.weight_gain = 0.5  # seeded factors stay below 1 even where nothing normalises
        self.act = activation(op.activation)

    def forward(self, *summands: Tensor) -> Tensor:
        """Summands; the first gives the shape of the result."""
        first, *others = summands
        factors = self._factors(len(summands))
        total = first if factors is None else first * factors[0]
        for number, other in enumerate(others, start=1):
            part = self._overlap(other, first)
            if factors is not None:
                shared = min(sizes(part)[1], sizes(factors[number])[1])
                part = part * factors[number][:, :shared]
            total = self._add(total, part)
        return cast(Tensor, self.act(total))

    @staticmethod
    def _overlap(source: Tensor, like: Tensor) -> Tensor:
        (_, most, height, width), (_, channels, finer, _) = sizes(like), sizes(source)
        if channels > most:
            source = source[:, :most]
        if sizes(source)[2:] == (height, width):
            return source
        stride = finer // height
        return source[:, :, : height * stride : stride, : width * stride : stride]

    @staticmethod
    def _add(total: Tensor, part: Tensor) -> Tensor:
        channels = sizes(part)[1]
        if channels == sizes(total)[1]:
            return total + part
        return torch.cat((total[:, :channels] + part, total[:, channels:]), 1)

    def _factors(self, summands: int) -> list[Tensor] | None:
        """One (1, channels or 1, 1, 1) factor a summand, normalised as the options say."""
        if self.op.weights == "none":
            return None
        weight: Tensor = self.weight
        if self.op.normalization != "none":
            if self.op.normalization == "relu":
                weight = functional.relu(weight)
            else:
                weight = torch.exp(weight - weight.amax(0, keepdim=True))
            weight = weight / (weight.sum(0, keepdim=True) + _SHORTCUT_EPS)
        return [weight[number].view(1, -1, 1, 1) for number in range(summands)]


class Scale(nn.Module):
    """Product of the layer before and the source, broadcast as their shapes say."""

    def __init__(self, op: ops.Scale) -> None:
        super().__init__()
        self.act = activation(op.activation)

    def forward(self, factor: Tensor, source: Tensor) -> Tensor:
        """Factors (n, c or 1, h or 1, w or 1) and the source (n, c, h, w)."""
        return cast(Tensor, self.act(source * factor))


class Upsample(nn.Module):
    """Nearest neighbour, or the sum of each square."""

    def __init__(self, op: ops.Upsample) -> None:
        super().__init__()
        self.scale = op.scale * op.stride**2 if op.reverse else op.scale
        self.resize: nn.Module = (
            nn.AvgPool2d(op.stride) if op.reverse else nn.Upsample(scale_factor=float(op.stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, oh, ow)."""
        y = cast(Tensor, self.resize(x))
        return y if self.scale == 1 else y * self.scale


class Reorg(nn.Module):
    """Places to channels and back; output channel (dy s + dx) c + k holds place (dy, dx) of k.

    ``legacy`` (YOLOv2) reads its (c, h, w) buffer as if it were (c / s s, h s, w s).
    """

    def __init__(self, op: ops.Reorg) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c s s, h / s, w / s), or back with ``reverse``."""
        (n, c, h, w), s = sizes(x), self.op.stride
        if self.op.reverse:
            x = x.reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
            return x.reshape(n, c // s**2, h * s, w * s)
        if self.op.legacy:
            x = x.reshape(n, c // s**2, h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        else:
            x = x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, c * s**2, h // s, w // s)


class Crop(nn.Module):
    """The centre of the map, scaled and shifted."""

    def __init__(self, op: ops.Crop, height: int, width: int) -> None:
        super().__init__()
        self.op = op
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, crop_height, crop_width)."""
        (height, width), (top, left) = self.size, self._corner(x)
        x = x[:, :, top : top + height, left : left + width]
        return x if self.op.scale == 1 and self.op.shift == 0 else x * self.op.scale + self.op.shift

    def _corner(self, x: Tensor) -> tuple[int, int]:
        _, _, height, width = sizes(x)
        return (height - self.size[0]) // 2, (width - self.size[1]) // 2


class Softmax(nn.Module):
    """Softmax over groups of the flattened map, or over channels at each place."""

    def __init__(self, op: ops.Softmax) -> None:
        super().__init__()
        self.op = op
        self.softmax = nn.Softmax(1 if op.spatial else 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        if self.op.temperature != 1:
            x = x / self.op.temperature
        if self.op.spatial:
            return cast(Tensor, self.softmax(x))
        shape = sizes(x)
        parts = x.reshape(shape[0], self.op.groups, -1)
        return cast(Tensor, self.softmax(parts)).reshape(shape)
