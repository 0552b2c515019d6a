"""Darknet's activations as torch modules (formulas: AlexeyAB/darknet ``activations.h``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

_CHANNEL_EPS = 1e-4  # added to the sum of the channels before dividing


class Elementwise(nn.Module):
    """An activation that torch has no module for."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.name = name
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to a tensor of any shape."""
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


def _hard_mish(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, torch.zeros_like(x)))


def _lhtan(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x))


def _plse(x: Tensor) -> Tensor:
    inner = 0.125 * x + 0.5
    return torch.where(x < -4, 0.01 * (x + 4), torch.where(x > 4, 0.01 * (x - 4) + 1, inner))


def _stair(x: Tensor) -> Tensor:
    floor, half = torch.floor(x), torch.floor(x / 2)
    return torch.where(torch.remainder(floor, 2) == 0, half, x - floor + half)


def _selu(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0507 * x, 1.0507 * 1.6732 * (torch.exp(x) - 1))


def _normalize_channels(x: Tensor) -> Tensor:
    positive = functional.relu(x)
    return positive / (positive.sum(1, keepdim=True) + _CHANNEL_EPS)


def _channel_softmax(x: Tensor) -> Tensor:
    powers = torch.exp(x)
    return powers / (powers.sum(1, keepdim=True) + _CHANNEL_EPS)


def _channel_softmax_maxval(x: Tensor) -> Tensor:
    return _channel_softmax(x - x.amax(1, keepdim=True))


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_mish": _hard_mish,
    "lhtan": _lhtan,
    "loggy": lambda x: 2 * torch.sigmoid(x) - 1,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _channel_softmax,
    "normalize_channels_softmax_maxval": _channel_softmax_maxval,
    "plse": _plse,
    "ramp": lambda x: functional.relu(x) + 0.1 * x,
    "selu": _selu,
    "stair": _stair,
}

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "hardtan": nn.Hardtanh,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "linear": nn.Identity,
    "logistic": nn.Sigmoid,
    "mish": nn.Mish,
    "relie": lambda: nn.LeakyReLU(0.01),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "revleaky": lambda: nn.LeakyReLU(0.1),
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """Return a new module for one of ``ops.ACTIVATIONS``."""
    if name in _MODULES:
        return _MODULES[name]()
    return Elementwise(name, _FUNCTIONS[name])
