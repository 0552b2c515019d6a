"""Rules for the native kernels of transformers, which torch takes in inference.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` hand over to one call each where their
conditions hold (`cspbench.analysis.sight` lets torch decide). On the CPU such a call is a sequence
of ordinary operators, whose rows these are, with the memory that each of them holds. What training
keeps for backward is that of the modules' other path, since training takes no native kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from cspbench.analysis.dispatch import fallback
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value, Weight
from cspbench.analysis.rules import pointwise
from cspbench.analysis.rules.simple import Arguments, Keywords, Rule, bind
from cspbench.analysis.tracer import Tracer

_ATTENTION = (
    *("query", "key", "value", "embed_dim", "num_head", "qkv_weight", "qkv_bias"),
    *("proj_weight", "proj_bias", "mask", "need_weights", "average_attn_weights", "mask_type"),
)
_LAYER = (
    *("src", "embed_dim", "num_heads", "qkv_weight", "qkv_bias", "proj_weight", "proj_bias"),
    *("use_gelu", "norm_first", "eps", "norm_weight_1", "norm_bias_1", "norm_weight_2"),
    *("norm_bias_2", "ffn_weight_1", "ffn_bias_1", "ffn_weight_2", "ffn_bias_2", "mask"),
)


class _Projections(NamedTuple):
    """Weights of an attention, and how it is asked for."""

    heads: int
    packed: Any
    packed_bias: Any
    out: Any
    out_bias: Any
    mask: Any
    need_weights: bool
    average: bool


def _projections(bound: dict[str, Any], heads: str, need_weights: bool) -> _Projections:
    return _Projections(
        heads=bound[heads],
        packed=bound["qkv_weight"],
        packed_bias=bound["qkv_bias"],
        out=bound["proj_weight"],
        out_bias=bound["proj_bias"],
        mask=bound.get("mask"),
        need_weights=need_weights,
        average=bound.get("average_attn_weights", True),
    )


def _made(tracer: Tracer, shape: Shape, like: torch.Tensor) -> tuple[torch.Tensor, Value]:
    return tracer.empty(shape, like.dtype, like.element_size())


def _weight(tracer: Tracer, tensor: torch.Tensor) -> Weight:
    weight = tracer.filter(tensor)
    if weight is None:
        raise ValueError("a native kernel of a transformer takes weights, not activations")
    return weight


def _linear(tracer: Tracer, x: torch.Tensor, weight: Any, bias: Any) -> torch.Tensor:
    matrix = _weight(tracer, weight)
    out, result = _made(tracer, (*x.shape[:-1], matrix.shape[0]), x)
    tracer.recorder.record(
        "linear",
        (tracer.value(x),),
        (result,),
        matrix,
        bias=None if bias is None else _weight(tracer, bias),
    )
    return out


def _part(value: Value, shape: Shape) -> Value:
    """A third of the packed queries, keys and values."""
    return Value(value.id, shape, value.itemsize, value.storage, None, value.owner)


def _attend(
    tracer: Tracer, x: torch.Tensor, call: _Projections
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Self-attention as ``_native_multi_head_attention`` computes it."""
    recorder = tracer.recorder
    batch, length, width = x.shape
    each = (batch, call.heads, length, width // call.heads)
    gates = _linear(tracer, x, call.packed, None)
    packed, thirds = _made(tracer, (3, *each), x)
    thirds.storage.saved = True
    recorder.record(
        "_transform_bias_rescale_qkv",
        (tracer.value(gates),),
        (thirds,),
        others=(_weight(tracer, call.packed_bias),),
        saved_extra_bytes=thirds.storage.nbytes,
    )
    del gates
    queries = keys = values = _part(thirds, each)
    scores: torch.Tensor | None
    scores, products = _made(tracer, (batch, call.heads, length, length), x)
    # Training without weights takes the fused kernel, which keeps its result and a sum of each row.
    products.storage.saved = not call.need_weights
    scaled = x.nbytes if call.need_weights else 0
    recorder.record("bmm", (queries, keys), (products,), saved_extra_bytes=scaled)
    scores, shares = _softmax(tracer, scores, products, call)
    context = Value(recorder.new_id(), each, thirds.itemsize, thirds.storage, None, recorder)
    fused = 0 if call.need_weights else x.nbytes + 4 * batch * call.heads * length
    recorder.record("bmm", (shares, values), (context,), saved_extra_bytes=fused)
    if not call.need_weights:
        scores = None
    joined, heads_last = _made(tracer, (batch, length, width), x)
    heads_last.storage.saved = not call.need_weights  # the fused kernel's result lies in order
    recorder.record("contiguous", (context,), (heads_last,), copied=True)
    out = _linear(tracer, joined, call.out, call.out_bias)
    del joined
    if scores is not None and call.average:
        scores = _averaged(tracer, scores)
    del packed
    return out, scores


def _softmax(
    tracer: Tracer, scores: torch.Tensor, products: Value, call: _Projections
) -> tuple[torch.Tensor, Value]:
    """Shares of the scores: in place, and in memory of their own where there is a mask."""
    if call.mask is None:
        shares = tracer.rewritten(scores)
        tracer.recorder.record("softmax", (products,), (shares,), in_place=True)
        return scores, shares
    masks, weights = tracer.split((call.mask,))
    masked, shares = _made(tracer, products.shape, scores)
    shares.storage.saved = not call.need_weights
    truths = 0 if call.mask.dtype is torch.bool else call.mask.numel()
    tracer.recorder.record(
        "_masked_softmax",
        (products, *masks),
        (shares,),
        others=weights,
        temporary_bytes=truths,
    )
    return masked, shares


def _averaged(tracer: Tracer, scores: torch.Tensor) -> torch.Tensor:
    """Mean over the heads, as torch computes it."""
    batch, _, length, _ = scores.shape
    mean, result = _made(tracer, (batch, length, length), scores)
    tracer.recorder.record("sum", (tracer.value(scores),), (result,))
    tracer.recorder.record("div", (result,), (tracer.rewritten(mean),), in_place=True)
    return mean


def _native_attention(tracer: Tracer, _: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(_ATTENTION, args, kwargs)
    call = _projections(bound, "num_head", bound.get("need_weights", True))
    return _attend(tracer, bound["query"], call)


def _native_layer(tracer: Tracer, _: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``_transformer_encoder_layer_fwd``."""
    bound = bind(_LAYER, args, kwargs)
    call = _projections(bound, "num_heads", need_weights=False)

    def norm(x: torch.Tensor, number: int) -> Any:
        weights = bound[f"norm_weight_{number}"], bound[f"norm_bias_{number}"]
        arguments = (x, (bound["embed_dim"],), *weights, bound["eps"])
        return pointwise.RULES["layer_norm"](tracer, torch.layer_norm, arguments, {})

    x, first = bound["src"], bound["norm_first"]
    if first:
        x = norm(x, 1)
    x = _attend(tracer, x, call)[0]
    _add(tracer, x, bound["src"])
    if not first:
        x = norm(x, 1)
    before = x
    if first:
        x = norm(x, 2)
    x = _feed_forward(tracer, x, bound)
    _add(tracer, x, before)
    return x if first else norm(x, 2)


def _feed_forward(tracer: Tracer, x: torch.Tensor, bound: dict[str, Any]) -> torch.Tensor:
    hidden = _linear(tracer, x, bound["ffn_weight_1"], bound["ffn_bias_1"])
    op = "gelu" if bound["use_gelu"] else "relu"
    tracer.recorder.record(op, (tracer.value(hidden),), (tracer.rewritten(hidden),), in_place=True)
    return _linear(tracer, hidden, bound["ffn_weight_2"], bound["ffn_bias_2"])


def _add(tracer: Tracer, x: torch.Tensor, other: torch.Tensor) -> None:
    operands = (tracer.value(x), tracer.value(other))
    tracer.recorder.record("add", operands, (tracer.rewritten(x),), in_place=True)


def _not_nested(_: Tracer, __: Any, ___: Arguments, ____: Keywords) -> bool:
    """Values of a padding mask are not known: all positions are computed, padding included."""
    return False


def _stays_padded(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """To and from a nested tensor, of a batch whose padding is not known: it stays as it is."""
    if args and isinstance(args[0], torch.Tensor) and not args[0].is_nested:
        return args[0]
    return fallback(tracer, func, args, kwargs)


RULES: dict[str, Rule] = {
    "_nested_tensor_from_mask": _stays_padded,
    "to_padded_tensor": _stays_padded,
    "_native_multi_head_attention": _native_attention,
    "_transformer_encoder_layer_fwd": _native_layer,
    "_nested_tensor_from_mask_left_aligned": _not_nested,
}
