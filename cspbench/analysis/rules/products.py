"""Rules for what multiplies and accumulates: convolution, linear, matrix product, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
    is_activation,
    rejected,
)
from cspbench.analysis.tracer import Tracer

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONV_T = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def _conv(op: str, dims: int, transposed: bool) -> Rule:
    names = _CONV_T if transposed else _CONV

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(names, args, kwargs)
        x, w, b = bound["input"], bound["weight"], bound.get("bias")
        weight = tracer.filter(w)
        value = tracer.value(x)
        if weight is None or len(value.shape) != dims + 2 or value.weight is not None:
            return fallback(tracer, func, args, kwargs)
        if b is not None and tracer.filter(b) is None:
            return fallback(tracer, func, args, kwargs)
        groups = bound.get("groups", 1)
        wrong = _misfit(x, w, b, weight.shape, groups, transposed)
        if wrong:
            rejected(tracer, func, args, kwargs, f"{op} of an input of {value.shape}: {wrong}")
        stride = shapes.tuple_of(bound.get("stride", 1), dims)
        dilation = shapes.tuple_of(bound.get("dilation", 1), dims)
        size = _output_size(value.shape, weight.shape, bound, stride, dilation, transposed)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        out, result = tracer.like(x, (value.shape[0], channels, *size))
        tracer.recorder.record(
            op,
            (value,),
            (result,),
            weight,
            bias=None if b is None else tracer.filter(b),
            kernel=weight.shape[2:],
            stride=stride,
            dilation=dilation,
            groups=groups,
            transposed=transposed,
        )
        return out

    return rule


def _misfit(
    x: torch.Tensor, w: torch.Tensor, b: Any, shape: Shape, groups: int, transposed: bool
) -> str:
    """What torch refuses of a convolution with a filter of that shape; "" if nothing."""
    if x.dtype is not w.dtype or (b is not None and b.dtype is not w.dtype):
        return f"its type {x.dtype} and the filter's {w.dtype} must be the same, and the bias's"
    if len(shape) != x.dim():
        return f"a filter of {shape} has other dimensions"
    given, expected = x.shape[1], shape[0] if transposed else shape[1] * groups
    if given != expected:
        return f"a convolution of {expected} channels was given {given}"
    if groups < 1 or shape[0] % groups:
        return f"{groups} groups do not divide {shape[0]} channels"
    if b is not None and tuple(b.shape) != (shape[1] * groups if transposed else shape[0],):
        return f"a bias of {tuple(b.shape)} does not fit a filter of {shape}"
    return ""


def _output_size(
    shape: Shape,
    weight: Shape,
    bound: dict[str, Any],
    stride: Shape,
    dilation: Shape,
    transposed: bool,
) -> Shape:
    """Spatial output sides of a convolution.

    Raises:
        ValueError: the window does not fit.
    """
    sides, kernel, dims = shape[2:], weight[2:], len(shape) - 2
    padding = bound.get("padding", 0)
    if padding == "same" and not transposed and set(stride) == {1}:
        return sides
    if isinstance(padding, str) and (padding != "valid" or transposed):
        raise ValueError(f"padding={padding!r} is for convolutions of stride 1")
    pads = (0,) * dims if padding == "valid" else shapes.tuple_of(padding, dims)
    if min(pads) < 0 or min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"padding {pads}, stride {stride} and dilation {dilation} make no window")
    if transposed:
        more = shapes.tuple_of(bound.get("output_padding", 0), dims)
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
    out, result = tracer.empty((*value.shape[:-1], weight.shape[0]), x.dtype, value.itemsize)
    bias = None if b is None else tracer.filter(b)
    tracer.recorder.record("linear", (value,), (result,), weight, bias=bias)
    return out


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
        out, result = tracer.empty(shape, args[0].dtype, left.itemsize)
        tracer.recorder.record("matmul", (left, right), (result,))
        return out

    return rule


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


def _attention(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    bound = bind(names, args, kwargs)
    operands = [bound.get(name) for name in names[:3]]
    if not all(is_activation(tracer, operand) for operand in operands):
        return fallback(tracer, func, args, kwargs)
    values = [tracer.value(operand) for operand in operands if isinstance(operand, torch.Tensor)]
    masks, weights = tracer.split((bound.get("attn_mask"),))
    query = values[0]
    leading = _leading([value.shape for value in values], bool(kwargs.get("enable_gqa")))
    shape = (*leading, query.shape[-2], values[2].shape[-1])
    wrong = _attention_misfit([value.shape for value in values], leading, bound)
    if wrong:
        rejected(tracer, func, args, kwargs, wrong)
    out, result = _heads_last(tracer, shape, bound["query"].dtype, query.itemsize)
    # Backward keeps the output too, and the log-sum-exp of each row in float32.
    result.storage.saved = True
    tracer.recorder.record(
        "scaled_dot_product_attention",
        values + masks,
        (result,),
        others=weights,
        saved_extra_bytes=result.storage.nbytes + 4 * math.prod(shape[:-1]),
    )
    return out


def _leading(operands: Sequence[Shape], grouped: bool) -> Shape:
    """Batches and heads of an attention's result.

    Raises:
        ValueError: an operand has none of length and width, or their batches and heads do not go
            together.
    """
    if min(map(len, operands)) < 2:
        raise ValueError("attention takes operands of at least two dimensions")
    leading = [operand[:-2] for operand in operands]
    if grouped and all(leading):
        query, *others = leading
        if all(other[-1] and query[-1] % other[-1] == 0 for other in others):
            leading = [query, *((*other[:-1], query[-1]) for other in others)]
    return shapes.broadcast(leading)


def _attention_misfit(operands: Sequence[Shape], leading: Shape, bound: dict[str, Any]) -> str:
    """What torch refuses of an attention; "" if nothing."""
    query, keys, values = operands
    wrong = ""
    if query[-1] != keys[-1]:
        wrong = f"queries of width {query[-1]} do not go with keys of width {keys[-1]}"
    elif keys[-2] != values[-2]:
        wrong = f"{keys[-2]} keys do not go with {values[-2]} values"
    elif len({bound[name].dtype for name in ("query", "key", "value")}) > 1:
        wrong = "query, key and value must have the same dtype"
    elif bound.get("attn_mask") is not None:
        wrong = _mask_misfit((*leading, query[-2], keys[-2]), bound)
    return wrong


def _mask_misfit(pairs: Shape, bound: dict[str, Any]) -> str:
    mask = bound["attn_mask"]
    if bound.get("is_causal"):
        return "a mask and is_causal exclude each other"
    if mask.dtype not in (torch.bool, bound["query"].dtype, torch.float32):
        return f"a mask of {mask.dtype} is neither bool nor of the query's type"
    if shapes.broadcast([pairs, tuple(mask.shape)]) != pairs:
        return f"a mask of {tuple(mask.shape)} does not fit {pairs}"
    return ""


def _heads_last(
    tracer: Tracer, shape: Shape, dtype: torch.dtype, itemsize: int
) -> tuple[torch.Tensor, Value]:
    """Attention's result: the fused kernels write (n, length, heads, width), seen transposed."""
    if len(shape) != 4:
        return tracer.empty(shape, dtype, itemsize)
    n, heads, length, width = shape
    out = torch.empty((n, length, heads, width), dtype=dtype, device="meta").transpose(1, 2)
    return out, tracer.adopt(out)


RULES: dict[str, Rule] = {
    **{f"conv{dims}d": _conv(f"conv{dims}d", dims, False) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _conv(f"conv_transpose{dims}d", dims, True) for dims in (1, 2, 3)},
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__"), _matmul(None)),
    "mm": _matmul(2),
    "bmm": _matmul(3),
    "scaled_dot_product_attention": _attention,
}
