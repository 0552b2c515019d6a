"""Rules for what multiplies and accumulates: convolution, linear, matrix product, attention."""

from __future__ import annotations

import math
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value
from cspbench.analysis.rules.simple import Arguments, Keywords, Rule, bind, is_activation
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
        groups = bound.get("groups", 1)
        stride = shapes.tuple_of(bound.get("stride", 1), dims)
        dilation = shapes.tuple_of(bound.get("dilation", 1), dims)
        size = _output_size(value.shape, weight.shape, bound, stride, dilation, transposed)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        expected = weight.shape[0] if transposed else weight.shape[1] * groups
        if value.shape[1] != expected:
            raise ValueError(f"a convolution of {expected} channels was given {value.shape[1]}")
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
    if padding == "same":
        return sides
    pads = (0,) * dims if padding == "valid" else shapes.tuple_of(padding, dims)
    if transposed:
        more = shapes.tuple_of(bound.get("output_padding", 0), dims)
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
    if value.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"a linear layer of {weight.shape[1]} features was given {value.shape}")
    out, result = tracer.empty((*value.shape[:-1], weight.shape[0]), x.dtype, value.itemsize)
    bias = None if b is None else tracer.filter(b)
    tracer.recorder.record("linear", (value,), (result,), weight, bias=bias)
    return out


def _matmul(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    if kwargs or len(args) != 2 or not all(is_activation(tracer, arg) for arg in args):
        return fallback(tracer, func, args, kwargs)
    left, right = tracer.value(args[0]), tracer.value(args[1])
    if min(len(left.shape), len(right.shape)) < 2:
        return fallback(tracer, func, args, kwargs)
    shape = shapes.matmul(left.shape, right.shape)
    out, result = tracer.empty(shape, args[0].dtype, left.itemsize)
    tracer.recorder.record("matmul", (left, right), (result,))
    return out


def _attention(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("query", "key", "value", "attn_mask"), args, kwargs)
    operands = [bound.get(name) for name in ("query", "key", "value")]
    if not all(is_activation(tracer, operand) for operand in operands):
        return fallback(tracer, func, args, kwargs)
    values = [tracer.value(operand) for operand in operands if isinstance(operand, torch.Tensor)]
    masks, weights = tracer.split((bound.get("attn_mask"),))
    query = values[0]
    shape = (*query.shape[:-1], values[2].shape[-1])
    out, result = _heads_last(tracer, shape, bound["query"].dtype, query.itemsize)
    # Backward keeps the output too, and the log-sum-exp of each row in float32.
    result.storage.saved = True
    tracer.recorder.record(
        "scaled_dot_product_attention",
        values + masks,
        (result,),
        others=weights,
        saved_extra_bytes=result.storage.nbytes + 4 * math.prod(query.shape[:-1]),
    )
    return out


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
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _matmul),
    "scaled_dot_product_attention": _attention,
}
