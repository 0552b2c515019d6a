"""Analyses of modules in this process: the same module, unchanged, is not traced again."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from cspbench.analysis.record import Analysis

_PLAIN = (int, float, str, bool, type(None))
_MEMO: weakref.WeakKeyDictionary[nn.Module, dict[Any, Analysis]] = weakref.WeakKeyDictionary()


def fingerprint(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an analysis depends on, as far as it can be seen: structure, attributes, shapes.

    None if the inputs hold anything but tensors and plain values.
    """
    inputs = _inputs((args, sorted(kwargs.items())))
    if inputs is None:
        return None
    parts: list[Any] = [inputs]
    for child in module.modules():
        parts.append((id(child), type(child)))
        for name, value in child.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules", "training"):
                parts.append((name, _attribute(value)))
        for tensors in (child._parameters, child._buffers):
            parts.extend(
                (name, id(tensor), tensor.shape, tensor.dtype)
                for name, tensor in tensors.items()
                if tensor is not None
            )
    return tuple(parts)


def _attribute(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple([_attribute(item) for item in value])
    return id(value)


def _inputs(tree: Any) -> Any:
    """Shapes and plain values of the inputs; None where there is anything else."""
    if isinstance(tree, torch.Tensor):
        return ("tensor", tuple(tree.shape), tree.dtype)
    if isinstance(tree, _PLAIN):
        return (type(tree), tree)
    if isinstance(tree, dict):
        return _inputs(tuple(tree.items()))
    if isinstance(tree, (tuple, list)):
        items = [_inputs(item) for item in tree]
        return None if None in items else tuple(items)
    return None


def recall(module: nn.Module, key: Any) -> Analysis | None:
    """The earlier analysis with this fingerprint, or None."""
    return _MEMO.get(module, {}).get(key) if key is not None else None


def remember(module: nn.Module, key: Any, analysis: Analysis) -> None:
    """Keep the analysis for as long as the module lives; the latest state only."""
    if key is not None:
        _MEMO[module] = {key: analysis}
