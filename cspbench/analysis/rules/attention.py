"""Rules for attention: the fused kernel, and the sequences of operators that torch makes of others.

What torch runs on the CPU decides: `torch.nn.functional.scaled_dot_product_attention` has one fused
kernel there and computes by plain operators what that does not take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value
from cspbench.analysis.rules import movement, pointwise, products
from cspbench.analysis.rules.simple import (
    Arguments,
    Keywords,
    Rule,
    bind,
    is_activation,
    rejected,
)
from cspbench.analysis.tracer import Tracer

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_FUSED_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def is_fused(query: Any, key: Any, value: Any, mask: Any, dropout: float, grouped: bool) -> bool:
    """True if torch's fused kernel for the CPU takes such an attention."""
    operands = (query, key, value)
    if dropout or query.dtype not in _FUSED_TYPES or any(x.dim() != 4 for x in operands):
        return False
    heads = [x.shape[1] for x in operands]
    shared = heads[1] == heads[2] and heads[0] % heads[1] == 0 if grouped else len({*heads}) == 1
    return (
        shared
        and query.shape[0] == key.shape[0] == value.shape[0]
        and query.shape[3] == key.shape[3] == value.shape[3]
        and min(query.shape[2], key.shape[2]) > 0
        and all(x.stride(-1) == 1 for x in operands)
        and (mask is None or _mask_is_fused(query, key, mask))
    )


def _mask_is_fused(query: Any, key: Any, mask: Any) -> bool:
    pairs: Shape = (*query.shape[:3], key.shape[2])
    if mask.requires_grad or mask.dim() not in (2, 4) or mask.stride(-1) != 1:
        return False
    expected = pairs[-mask.dim() :]
    return all(side in (1, whole) for side, whole in zip(mask.shape, expected, strict=True))


def _attention(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(_NAMES, args, kwargs)
    operands: list[Any] = [bound.get(name) for name in _NAMES[:3]]
    if not all(is_activation(tracer, operand) for operand in operands):
        return fallback(tracer, func, args, kwargs)
    values = [tracer.value(operand) for operand in operands]
    mask, grouped = bound.get("attn_mask"), bool(kwargs.get("enable_gqa"))
    query = values[0]
    leading = _leading([value.shape for value in values], grouped)
    shape = (*leading, query.shape[-2], values[2].shape[-1])
    wrong = _misfit([value.shape for value in values], leading, bound)
    if wrong:
        rejected(tracer, func, args, kwargs, wrong)
    first, second, third = operands
    if not is_fused(first, second, third, mask, bound.get("dropout_p", 0.0), grouped):
        plain = not (grouped or bound.get("is_causal") or bound.get("dropout_p"))
        if plain and (mask is None or mask.dtype is first.dtype):
            return _by_operators(tracer, operands, mask)
        return fallback(tracer, func, args, kwargs)
    masks, weights = tracer.split((mask,))
    converted = None
    if mask is not None and mask.dtype is torch.bool:  # the kernel takes numbers that are added
        converted, added = tracer.empty(tuple(mask.shape), bound["query"].dtype, query.itemsize)
        tracer.recorder.record("where", masks, (added,), others=weights)
        masks, weights = [added], []
    out, result = _heads_last(tracer, shape, bound["query"].dtype)
    # The kernel puts out the log-sum-exp of each row too, in float32 at least. Backward keeps both.
    sums = max(4, query.itemsize) * math.prod(shape[:-1])
    result.storage.saved = True
    tracer.recorder.record(
        "scaled_dot_product_attention",
        values + masks,
        (result,),
        others=weights,
        temporary_bytes=sums,
        saved_extra_bytes=result.storage.nbytes + sums,
    )
    del converted
    return out


def _by_operators(tracer: Tracer, operands: Sequence[Any], mask: Any) -> Any:
    """What torch does where its fused kernel does not serve; the factor only scales."""

    def call(name: str, *args: Any) -> Any:
        return _OPERATORS[name](tracer, getattr(torch.Tensor, name), args, {})

    query, key, value = operands
    query = call("mul", query, 0.5)
    keys = call("mul", call("transpose", key, -2, -1), 0.5)
    scores = call("matmul", query, keys)
    del keys
    if mask is not None:
        scores = call("add_", scores, mask)
    before = tracer.value(scores)
    shares, result = tracer.empty(before.shape, scores.dtype, before.itemsize)
    held = shapes.checked_rows(before.shape)
    tracer.recorder.record("_safe_softmax", (before,), (result,), temporary_bytes=held)
    del scores
    return call("matmul", shares, value)


_OPERATORS = movement.RULES | pointwise.RULES | products.RULES


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


def _misfit(operands: Sequence[Shape], leading: Shape, bound: dict[str, Any]) -> str:
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


def _heads_last(tracer: Tracer, shape: Shape, dtype: torch.dtype) -> tuple[torch.Tensor, Value]:
    """Attention's result: the fused kernel writes (n, length, heads, width), seen transposed."""
    n, heads, length, width = shape
    out = torch.empty((n, length, heads, width), dtype=dtype, device="meta").transpose(1, 2)
    return out, tracer.adopt(out)


RULES: dict[str, Rule] = {"scaled_dot_product_attention": _attention}
