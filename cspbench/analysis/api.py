"""What others call: `analyze` a module, `analyze_id` a model of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cspbench.analysis.record import Analysis
from cspbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def analyze(module: nn.Module, example_input: Any, cache: bool = True) -> Analysis:
    """Analyse a module in one pass, without running it and without changing it.

    The forward pass is followed in evaluation mode on shapes alone, so the weights may be real,
    on any device, or on ``meta``.

    Args:
        module: what to analyse.
        example_input: a tensor, a shape such as ``(1, 3, 224, 224)`` (float32), a tuple or list of
            positional inputs, or a mapping of keyword inputs. Only shapes and types count.
        cache: whether an earlier analysis of this very module and these input shapes may be
            returned. The module's submodules, parameters and plain attributes are compared;
            pass False if its forward depends on anything else.

    Raises:
        InputError: not a module, no tensor among the inputs, or a forward pass that needs the
            values of activations or fails on these shapes (with the model's file and line).
    """
    del cache
    return _traced(module, *arguments(example_input))


def arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs of an example as `analyze` takes it.

    Raises:
        InputError: there is no tensor in it.
    """
    import torch

    if isinstance(example_input, torch.Tensor):
        return (example_input,), {}
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    if isinstance(example_input, Sequence) and not isinstance(example_input, str):
        if example_input and all(type(side) is int for side in example_input):
            return (torch.empty(tuple(example_input), device="meta"),), {}
        return tuple(example_input), {}
    raise InputError(
        "the example input must be a tensor, a shape, a tuple of inputs or a mapping of keyword "
        f"inputs, not {type(example_input).__name__}"
    )


def _traced(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Analysis:
    from torch import nn

    from cspbench.analysis.derive import analysis_of
    from cspbench.analysis.trace import trace

    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module can be analysed, not {type(module).__name__}")
    seen = trace(module, args, kwargs)
    return analysis_of(type(module).__name__, "torch", seen.input_shapes, seen.layers, seen.facts)
