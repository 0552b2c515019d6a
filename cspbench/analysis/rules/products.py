"""Rules for what multiplies and accumulates: convolution, linear, matrix product, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value, Weight
from cspbench.analysis.rules.simple import (
    Arguments,
    Keywords,
    Rule,
    bind,
    copied_bytes,
    is_activation,
    rejected,
    reshaped,
)
from cspbench.analysis.tracer import Tracer, channels_last

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONV_T = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
#: How a window moves: arguments of every convolution, and what they are if they are not given.
_WINDOW = (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1), ("output_padding", 0))
#: Convolutions that are remembered.
_MOST_KEPT = 4096


def _conv(op: str, dims: int, transposed: bool) -> Rule:
    names = _CONV_T if transposed else _CONV

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(names, args, kwargs)
        x, w, b = bound["input"], bound["weight"], bound.get("bias")
        weight = tracer.filter(w)
        value = tracer.value(x)
        if weight is None or len(value.shape) != dims + 2 or value.weight is not None:
            return fallback(tracer, func, args, kwargs)
        bias = None if b is None else tracer.filter(b)
        if b is not None and bias is None:
            return fallback(tracer, func, args, kwargs)
        wrong = _wrong_types(x, w, b) or _misfit(
            value.shape,
            weight.shape,
            None if bias is None else bias.shape,
            bound.get("groups", 1),
            transposed,
        )
        if wrong:
            rejected(tracer, func, args, kwargs, f"{op} of an input of {value.shape}: {wrong}")
        window = _window(
            *(value.shape, weight.shape, transposed),
            *(_plain(bound.get(name, default)) for name, default in _WINDOW),
        )
        out, result = tracer.like(x, window.shape)
        tracer.recorder.record(
            op,
            (value,),
            (result,),
            weight,
            bias=bias,
            kernel=weight.shape[2:],
            stride=window.stride,
            dilation=window.dilation,
            groups=window.groups,
            transposed=transposed,
            temporary_bytes=copied_bytes(x) + _turned_bytes(x, w),
        )
        return out

    return rule


def _turned_bytes(x: torch.Tensor, w: torch.Tensor) -> int:
    """The copy of a filter with its channels last, which an image in that order takes."""
    order = channels_last(x)
    return 0 if order is None or w.is_contiguous(memory_format=order) else w.nbytes


def _wrong_types(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> str:
    """What torch refuses of a convolution's types; "" if nothing."""
    if x.dtype is not w.dtype or (b is not None and b.dtype is not w.dtype):
        return f"its type {x.dtype} and the filter's {w.dtype} must be the same, and the bias's"
    return ""


@lru_cache(_MOST_KEPT)
def _misfit(shape: Shape, weight: Shape, bias: Shape | None, groups: int, transposed: bool) -> str:
    """What torch refuses of a convolution's shapes; "" if nothing."""
    if len(weight) != len(shape):
        return f"a filter of {weight} has other dimensions"
    given, expected = shape[1], weight[0] if transposed else weight[1] * groups
    if given != expected:
        return f"a convolution of {expected} channels was given {given}"
    if groups < 1 or weight[0] % groups:
        return f"{groups} groups do not divide {weight[0]} channels"
    if bias is not None and bias != (weight[1] * groups if transposed else weight[0],):
        return f"a bias of {bias} does not fit a filter of {weight}"
    return ""


class _Window(NamedTuple):
    """Shape that a convolution puts out, and how its window moves, one number a dimension."""

    shape: Shape
    stride: Shape
    dilation: Shape
    groups: int


@lru_cache(_MOST_KEPT)
def _window(
    shape: Shape,
    weight: Shape,
    transposed: bool,
    stride: int | Shape,
    padding: int | str | Shape,
    dilation: int | Shape,
    groups: int,
    output_padding: int | Shape,
) -> _Window:
    """Networks repeat their convolutions, so what was worked out is kept.

    Raises:
        ValueError: the window does not fit.
    """
    dims = len(shape) - 2
    strides, dilations = shapes.tuple_of(stride, dims), shapes.tuple_of(dilation, dims)
    more = shapes.tuple_of(output_padding, dims) if transposed else ()
    size = _output_size(shape[2:], weight[2:], padding, strides, dilations, more)
    channels = weight[1] * groups if transposed else weight[0]
    return _Window((shape[0], channels, *size), strides, dilations, groups)


def _plain(value: Any) -> Any:
    """Sides as a function may be given them, in a form that can be a key."""
    return tuple(value) if isinstance(value, list) else value


def _output_size(
    sides: Shape,
    kernel: Shape,
    padding: int | str | Shape,
    stride: Shape,
    dilation: Shape,
    more: Shape,
) -> Shape:
    """Spatial output sides of a convolution; ``more`` is the output padding of a transposed one.

    Raises:
        ValueError: the window does not fit.
    """
    dims = len(sides)
    if padding == "same" and not more and set(stride) == {1}:
        return sides
    if isinstance(padding, str) and (padding != "valid" or more):
        raise ValueError(f"padding={padding!r} is for convolutions of stride 1")
    pads = (0,) * dims if isinstance(padding, str) else shapes.tuple_of(padding, dims)
    if min(pads) < 0 or min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"padding {pads}, stride {stride} and dilation {dilation} make no window")
    if more:
        if any(m < 0 or m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
            raise ValueError(f"output padding {more} must be smaller than stride or dilation")
        size = tuple(map(shapes.conv_transpose_size, sides, kernel, stride, pads, dilation, more))
    else:
        size = tuple(map(shapes.conv_size, sides, kernel, stride, pads, dilation))
    if min(size) < 1:
        raise ValueError(f"a window of {kernel} does not fit into an input of {sides}")
    return size


def _linear(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("input", "weight", "bias"), args, kwargs)
    x, b = bound["input"], bound.get("bias")
    weight = tracer.filter(bound["weight"])
    if weight is None or len(weight.shape) != 2 or not is_activation(tracer, x):
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    if b is not None and tracer.filter(b) is None:
        return fallback(tracer, func, args, kwargs)
    wrong = ""
    if value.shape[-1:] != weight.shape[1:]:
        wrong = f"a linear layer of {weight.shape[1]} features was given {value.shape}"
    elif x.dtype is not bound["weight"].dtype or (b is not None and b.dtype is not x.dtype):
        wrong = f"the type {x.dtype} of the input must be that of weight and bias"
    elif b is not None and tuple(b.shape) not in ((weight.shape[0],), (1,), ()):
        wrong = f"a bias of {tuple(b.shape)} does not fit {weight.shape[0]} features"
    if wrong:
        rejected(tracer, func, args, kwargs, wrong)
    copy = None
    if len(value.shape) > 2 and not x.is_contiguous():
        rows = value.elements // max(value.shape[-1], 1)
        copy, value = _as_matrices(tracer, value, x, (rows, value.shape[-1]))
    out, result = tracer.empty((*x.shape[:-1], weight.shape[0]), x.dtype, value.itemsize)
    bias = None if b is None else tracer.filter(b)
    tracer.recorder.record("linear", (value,), (result,), weight, bias=bias)
    del copy
    return out


def _as_matrices(
    tracer: Tracer, value: Value, x: torch.Tensor, shape: Shape
) -> tuple[torch.Tensor | None, Value]:
    """An activation, seen as ``x``, in the shape of matrices: a copy where that is no view.

    The copy lives as long as the tensor that comes first.
    """
    matrices = reshaped(x, shape)
    if tracer.shares_memory(matrices):
        return None, value
    result = tracer.adopt(matrices)
    tracer.recorder.record("reshape_copy", (value,), (result,), copied=True)
    # The product reads it in the operand's own shape, of which its cost is made.
    return matrices, Value(
        result.id, tuple(x.shape), result.itemsize, result.storage, None, result.owner
    )


def _matmul(rank: int | None) -> Rule:
    """A product of activations; ``mm`` and ``bmm`` take operands of one ``rank`` only."""

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        if kwargs or len(args) != 2 or not all(is_activation(tracer, arg) for arg in args):
            if not kwargs and _is_sparse(args[0]):
                return sparse_mm(tracer, func, args, kwargs)
            return fallback(tracer, func, args, kwargs)
        left, right = tracer.value(args[0]), tracer.value(args[1])
        ranks = (len(left.shape), len(right.shape))
        if min(ranks) < 2:
            return fallback(tracer, func, args, kwargs)
        if args[0].dtype is not args[1].dtype or (
            rank and (ranks != (rank, rank) or left.shape[:-2] != right.shape[:-2])
        ):
            why = f"{left.shape} ({args[0].dtype}) times {right.shape} ({args[1].dtype})"
            rejected(tracer, func, args, kwargs, f"no product of {why}")
        shape = shapes.matmul(left.shape, right.shape)
        copies: list[torch.Tensor | None] = []
        if max(ranks) > 3 or ranks[0] != ranks[1]:
            copies, (left, right) = _batches(tracer, args, shape[:-2])
        out, result = tracer.empty(shape, args[0].dtype, left.itemsize)
        tracer.recorder.record("matmul", (left, right), (result,))
        del copies
        return out

    return rule


def _batches(
    tracer: Tracer, operands: Sequence[torch.Tensor], leading: Shape
) -> tuple[list[torch.Tensor | None], list[Value]]:
    """Both operands as torch multiplies them: with one batch dimension, which may take a copy.

    A matrix on the right needs none where the left operand is rows of the same length.
    """
    first, second = operands
    if second.dim() == 2 and _is_rows(first):
        return [], [tracer.value(first), tracer.value(second)]
    count = math.prod(leading)
    copies, values = [], []
    for operand in operands:
        if operand.is_contiguous() and operand.shape[:-2] == leading:
            values.append(tracer.value(operand))
            continue
        expanded = operand.expand(*leading, *operand.shape[-2:])
        sides = (count, *operand.shape[-2:])
        copy, value = _as_matrices(tracer, tracer.value(operand), expanded, sides)
        copies.append(copy)
        values.append(value)
    return copies, values


def _is_rows(tensor: torch.Tensor) -> bool:
    """True if all dimensions but the last one can be seen as one."""
    shape, strides = tensor.shape, tensor.stride()
    places = range(tensor.dim() - 2)
    return all(strides[i] == strides[i + 1] * shape[i + 1] for i in places)


def _is_sparse(tensor: object) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.layout is not torch.strided


def sparse_mm(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A sparse weight or constant times activations: its stored elements are what is multiplied."""
    matrix, x = args[:2]
    known = _is_sparse(matrix) and matrix.device.type != "meta" and matrix.dim() == 2
    if kwargs or len(args) != 2 or not known or not is_activation(tracer, x) or x.dim() != 2:
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    coordinates = matrix.layout is torch.sparse_coo
    count = matrix._nnz() if coordinates else matrix.values().numel()
    stored = Weight((int(count),), matrix.element_size(), "buffer")
    stored.base = tracer.weight(matrix)
    out, result = tracer.like(x, shapes.matmul(tuple(matrix.shape), value.shape))
    tracer.recorder.record("sparse_mm", (value,), (result,), stored, kind="linear")
    return out


RULES: dict[str, Rule] = {
    **{f"conv{dims}d": _conv(f"conv{dims}d", dims, False) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _conv(f"conv_transpose{dims}d", dims, True) for dims in (1, 2, 3)},
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__"), _matmul(None)),
    "mm": _matmul(2),
    "bmm": _matmul(3),
}
