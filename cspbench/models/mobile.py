"""Inverted residual blocks (MobileNetV2, arXiv 1801.04381; EfficientNet, arXiv 1905.11946)."""

from __future__ import annotations

from torch import nn

from cspbench.models.blocks import Chain, ConvBnAct, Residual
from cspbench.models.dense import SqueezeExcite
from cspbench.models.weights import set_gain


def inverted(
    in_channels: int,
    hidden: int,
    out_channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    squeeze: int = 0,
    act: str = "relu",
) -> nn.Module:
    """1x1 to ``hidden``, depthwise convolution, gate of width ``squeeze``, linear 1x1.

    A block that keeps width and resolution has a shortcut.
    """
    parts: list[nn.Module] = [
        ConvBnAct(in_channels, hidden, act=act),
        ConvBnAct(hidden, hidden, kernel, stride, groups=hidden, act=act),
    ]
    if squeeze:
        parts.append(SqueezeExcite(hidden, squeeze, act))
    project = ConvBnAct(hidden, out_channels, act="linear")
    if squeeze:
        # Seeded weights: the gate before it is near 1/2.
        set_gain(project.conv, "linear", scale=2.0)
    body = Chain([*parts, project], in_channels)
    if stride == 1 and in_channels == out_channels:
        return Residual(body, in_channels)
    return body
