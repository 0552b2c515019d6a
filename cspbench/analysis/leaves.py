"""Layers whose forward is one call of one function, which are half of most networks.

That call can be named without the layer's own forward: looking up its weights, asking for its
input's dimensions and entering the function each take as long as the rule that then answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  (the name that everybody gives it)
from torch import nn
from torch.nn.modules import module as _hooks

#: ``call(layer, weights, input)`` gives function and arguments, or None for the layer's own way.
Call: TypeAlias = tuple[Any, tuple[Any, ...]] | None
_GLOBAL = (
    *(_hooks._global_backward_pre_hooks, _hooks._global_backward_hooks),
    *(_hooks._global_forward_hooks, _hooks._global_forward_pre_hooks),
)


def call_of(layer: nn.Module, args: tuple[Any, ...]) -> Call:
    """The function and the arguments that a layer's forward would call; None if we cannot tell.

    Only a layer as torch made it is known: no other forward, no hooks, weights where torch keeps
    them, in evaluation mode, given a plain tensor.

    Args:
        layer: of a type in `LEAVES`.
        args: what it is called with.
    """
    if len(args) != 1 or type(args[0]) is not torch.Tensor:
        return None
    forward, call = LEAVES[type(layer)]
    state = layer.__dict__
    if type(layer).forward is not forward or "forward" in state or state["training"]:
        return None
    if (
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
        or any(_GLOBAL)
    ):
        return None
    try:
        return call(layer, state["_parameters"], args[0])
    except KeyError:  # a weight that lies elsewhere
        return None


def _conv2d(layer: Any, weights: Any, x: torch.Tensor) -> Call:
    if layer.padding_mode != "zeros":
        return None
    weight, bias = weights["weight"], weights["bias"]
    return F.conv2d, (x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _batch_norm2d(layer: Any, weights: Any, x: torch.Tensor) -> Call:
    buffers = layer._buffers
    mean, variance = buffers["running_mean"], buffers["running_var"]
    if mean is None or variance is None or x.dim() != 4:
        return None
    parameters = weights["weight"], weights["bias"]
    return F.batch_norm, (x, mean, variance, *parameters, False, layer.momentum or 0.0, layer.eps)


def _linear(_: Any, weights: Any, x: torch.Tensor) -> Call:
    return F.linear, (x, weights["weight"], weights["bias"])


def _layer_norm(layer: Any, weights: Any, x: torch.Tensor) -> Call:
    parameters = weights["weight"], weights["bias"]
    return F.layer_norm, (x, layer.normalized_shape, *parameters, layer.eps)


def _in_place(function: Any) -> Callable[[Any, Any, torch.Tensor], Call]:
    return lambda layer, _, x: (function, (x, layer.inplace))


_CALLS: dict[Any, Callable[[Any, Any, torch.Tensor], Call]] = {
    nn.Conv2d: _conv2d,
    nn.BatchNorm2d: _batch_norm2d,
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.ReLU: _in_place(F.relu),
    nn.SiLU: _in_place(F.silu),
}
#: Types of layers, each with the forward that torch gave it and what that calls.
LEAVES = {kind: (kind.forward, call) for kind, call in _CALLS.items()}
