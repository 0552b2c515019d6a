"""Rebuilds blocks of any network at a smaller width.

A copy of the blocks runs once on shapes. Each layer takes the channels that reach it, and puts out
its own number times the ratio of the widths; a layer whose input has its full width stays as it is.
Groups keep their width, so that their number shrinks. What comes out must have the shape of what
went in. Weights are the first channels of the network's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from cspbench.core.text import first_line
from cspbench.models.stage_search import LAYERS

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
#: Numbers of a module with these names are no widths.
_NO_WIDTHS = frozenset({
    "kernel_size", "stride", "padding", "dilation", "num_heads", "heads", "radix", "scale",
    "training", "dim",
})  # fmt: skip
#: Smaller ones are seldom widths.
_LEAST_WIDTH = 8


class CannotNarrow(Exception):
    """A block cannot be rebuilt at a width; the text says why."""


def narrowed(blocks: Sequence[nn.Module], shape: Sequence[int], channels: int) -> nn.Sequential:
    """Copies of blocks, one behind another, that read and put out fewer channels.

    Args:
        blocks: they stay as they are.
        shape: of what they read and put out.
        channels: how many they are to have.

    Raises:
        CannotNarrow: a block does not work at that width.
    """
    attempts: list[CannotNarrow] = []
    for with_numbers in (False, True):  # a number that equals a width may be one
        try:
            return _attempt(blocks, shape, channels, with_numbers=with_numbers)
        except CannotNarrow as error:
            attempts.append(error)
    raise attempts[0]


def _attempt(
    blocks: Sequence[nn.Module], shape: Sequence[int], channels: int, *, with_numbers: bool
) -> nn.Sequential:
    original = nn.Sequential(*blocks)
    copied = _on_meta(original)
    width = _Width(int(shape[1]), channels)
    hooks = [
        module.register_forward_pre_hook(_once(module, width))
        for module in copied.modules()
        if isinstance(module, LAYERS + _NORMS)
    ]
    width.learn(copied)
    for module in copied.modules():
        if not isinstance(module, LAYERS + _NORMS):
            width.narrow_rest(module, numbers=with_numbers)
    _run(copied.eval(), shape, channels)
    for hook in hooks:
        hook.remove()
    _fill(copied, original)
    return copied


def _on_meta(module: nn.Module) -> nn.Sequential:
    """A copy without memory for weights; parameters that are shared stay shared."""
    empty: dict[int, Any] = {}
    for one in (*module.parameters(), *module.buffers()):
        twin: Tensor = torch.empty_like(one, device="meta")
        if isinstance(one, nn.Parameter):
            twin = nn.Parameter(twin, one.requires_grad)
        empty[id(one)] = twin
    try:
        copied: nn.Sequential = copy.deepcopy(module, empty)  # type: ignore[assignment]
    except Exception as error:
        raise CannotNarrow(f"it cannot be copied: {first_line(error)}") from error
    return copied


def _run(copied: nn.Module, shape: Sequence[int], channels: int) -> None:
    """Check each block on shapes.

    Raises:
        CannotNarrow: one fails, or puts out another shape.
    """
    x = torch.zeros((shape[0], channels, *shape[2:]), device="meta")
    for number, block in enumerate(copied.children(), start=1):
        where = f"block {number} of those behind the split, at {channels} of {shape[1]} channels"
        try:
            with torch.no_grad():
                result = block(x)
        except CannotNarrow as error:
            raise CannotNarrow(f"{where}: {error}") from None
        except Exception as error:  # the network's own code may raise anything
            raise CannotNarrow(f"{where}: {type(error).__name__}: {first_line(error)}") from error
        if not isinstance(result, Tensor) or result.shape != x.shape:
            out = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise CannotNarrow(f"{where}: {tuple(x.shape)} goes in and {out} comes out")


def _fill(copied: nn.Module, original: nn.Module) -> None:
    """Give the copy the first channels of the original's weights; what is on meta stays there."""
    filled: dict[int, Tensor] = {}
    for (_, module), (_, source) in zip(
        copied.named_modules(), original.named_modules(), strict=True
    ):
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                whole = getattr(source, name, None)
                if tensor is None or not isinstance(whole, Tensor):
                    continue
                if id(tensor) not in filled:
                    part = whole.detach()[tuple(slice(0, side) for side in tensor.shape)].clone()
                    filled[id(tensor)] = (
                        nn.Parameter(part, tensor.requires_grad)
                        if isinstance(tensor, nn.Parameter) else part
                    )  # fmt: skip
                own[name] = filled[id(tensor)]


def _once(module: nn.Module, width: _Width) -> Callable[[nn.Module, Any], None]:
    """A hook that narrows a layer when it is called for the first time."""
    done = False

    def hook(_module: nn.Module, args: Any) -> None:
        nonlocal done
        if not done and args and isinstance(args[0], Tensor):
            done = True
            width.narrow(module, args[0])

    return hook


class _Width:
    """The old width of a stage and the new one, and what follows for other numbers."""

    def __init__(self, old: int, new: int) -> None:
        self._ratio = Fraction(new, old)
        self._widths = {old: new}

    def of(self, channels: int) -> int:
        """A number of channels, narrowed; halves are rounded up."""
        return max(1, int(channels * self._ratio + Fraction(1, 2)))

    def learn(self, module: nn.Module) -> None:
        """Take in the widths of all layers, for tensors and numbers that stand beside them."""
        for layer in module.modules():
            for one in _widths(layer):
                if one > 1:
                    self._widths.setdefault(one, self.of(one))

    def narrow(self, layer: nn.Module, x: Tensor) -> None:
        """Give a layer the channels that reach it.

        Raises:
            CannotNarrow: its groups do not go into them.
        """
        if isinstance(layer, nn.modules.conv._ConvNd):
            self._convolution(layer, int(x.shape[1]))
        elif isinstance(layer, nn.Linear):
            self._linear(layer, int(x.shape[-1]))
        elif isinstance(layer, nn.LayerNorm):
            shape = tuple(self._widths.get(side, side) for side in layer.normalized_shape)
            self._rest(layer, dict(zip(layer.normalized_shape, shape, strict=True)))
            layer.normalized_shape = shape
        elif isinstance(layer, nn.GroupNorm):
            self._group_norm(layer, int(x.shape[1]))
        elif isinstance(layer, nn.PReLU):
            if layer.num_parameters > 1:
                self._rest(layer, {layer.num_parameters: int(x.shape[1])})
                layer.num_parameters = int(x.shape[1])
        else:
            assert isinstance(layer, nn.modules.batchnorm._NormBase), "no other layer is hooked"
            self._rest(layer, {layer.num_features: int(x.shape[1])})
            layer.num_features = int(x.shape[1])

    def _stays(self, old: int, new: int) -> bool:
        """Whether what reaches a layer does not follow from the width of the stage."""
        return new == old and self.of(old) != old

    def _convolution(self, layer: nn.modules.conv._ConvNd, channels: int) -> None:
        old, out, groups = layer.in_channels, layer.out_channels, layer.groups
        if self._stays(old, channels):
            return
        if groups == 1:
            new_groups, new_out = 1, self.of(out)
        else:
            of_group = old // groups
            if channels % of_group:
                raise CannotNarrow(
                    f"its groups of {of_group} channels do not go into {channels} channels"
                )
            new_groups = channels // of_group
            new_out = out // groups * new_groups
        layer.in_channels, layer.out_channels, layer.groups = channels, new_out, new_groups
        first, second = (out, old // groups), (new_out, channels // new_groups)
        if layer.transposed:
            first, second = (old, out // groups), (channels, new_out // new_groups)
        for name, tensor in list(layer._parameters.items()):
            if tensor is None:
                continue
            if name == "weight":
                assert tuple(tensor.shape[:2]) == first, "a convolution's weight has its shape"
                shape = (*second, *tensor.shape[2:])
            else:  # a bias, or what a kind of convolution adds for each output
                shape = tuple(new_out if side == out else side for side in tensor.shape)
            _replace(layer, name, shape)
        self._rest(layer, {out: new_out}, buffers_only=True)

    def _linear(self, layer: nn.Linear, features: int) -> None:
        if self._stays(layer.in_features, features):
            return
        out = self.of(layer.out_features)
        layer.in_features, layer.out_features = features, out
        _replace(layer, "weight", (out, features))
        if layer.bias is not None:
            _replace(layer, "bias", (out,))

    def _group_norm(self, layer: nn.GroupNorm, channels: int) -> None:
        old = layer.num_channels
        if layer.num_groups > 1 and channels != old:
            of_group = old // layer.num_groups
            if channels % of_group:
                raise CannotNarrow(
                    f"the {of_group} channels that are normalised together do not go into "
                    f"{channels} channels"
                )
            layer.num_groups = channels // of_group
        self._rest(layer, {old: channels})
        layer.num_channels = channels

    def narrow_rest(self, module: nn.Module, *, numbers: bool) -> None:
        """Narrow tensors that a module holds beside its layers, and its numbers if they are."""
        self._rest(module, self._widths)
        if numbers:
            for name, value in list(vars(module).items()):
                if not name.startswith("_") and name not in _NO_WIDTHS:
                    setattr(module, name, self._number(value))

    def _number(self, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value >= _LEAST_WIDTH:
            return self._widths.get(value, value)
        if type(value) in (list, tuple):
            return type(value)(self._number(one) for one in value)
        return value

    def _rest(
        self, module: nn.Module, widths: Mapping[int, int], *, buffers_only: bool = False
    ) -> None:
        tensors = list(module._buffers.items())
        if not buffers_only:
            tensors += list(module._parameters.items())
        for name, tensor in tensors:
            if tensor is not None:
                _replace(module, name, tuple(widths.get(side, side) for side in tensor.shape))


def _widths(layer: nn.Module) -> tuple[int, ...]:
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return ()


def _replace(module: nn.Module, name: str, shape: Sequence[int]) -> None:
    """Exchange a tensor for one of another shape, both without memory."""
    old = getattr(module, name)
    if tuple(old.shape) == tuple(shape):
        return
    new: Tensor = torch.empty(tuple(shape), dtype=old.dtype, device="meta")
    setattr(module, name, nn.Parameter(new, old.requires_grad)
            if isinstance(old, nn.Parameter) else new)  # fmt: skip
