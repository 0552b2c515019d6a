"""Rules for views, concatenation, padding and other data movement."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.calls import check_writable, record_call
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.recorder import Weight
from cspbench.analysis.rules.simple import (
    Arguments,
    Keywords,
    Rule,
    bind,
    is_activation,
    made_of,
    rejected,
    reshaped,
    without_values,
)
from cspbench.analysis.tracer import META, Tracer


def _cat(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("tensors", "dim"), args, kwargs)
    tensors: Sequence[torch.Tensor] = bound["tensors"]
    axis = bound.get("dim", bound.get("axis", 0))
    values, weights = tracer.split(tensors)
    uniform = len({t.dtype for t in tensors}) == 1
    alone = not weights or (not values and without_values(tracer, tensors))
    if not alone or not uniform or "out" in bound or not isinstance(axis, int):
        return fallback(tracer, func, args, kwargs)
    sides = [tuple(tensor.shape) for tensor in tensors]
    rank = len(sides[0])
    if not -rank <= axis < rank or any(len(shape) != rank for shape in sides):
        return fallback(tracer, func, args, kwargs)
    shape = shapes.concatenate(sides, axis)
    if weights:
        out, result = made_of(tracer, weights, shape, tensors[0].dtype)
    else:
        out, result = tracer.like(tensors[0], shape)
    tracer.recorder.record("cat", values, (result,), others=weights, copied=True)
    return out


def _zeros(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A constant of zeros, as recurrent layers begin with; its values are never needed."""
    if kwargs.get("out") is not None or kwargs.get("layout") is not None:
        return fallback(tracer, func, args, kwargs)
    out = func(*args, **{**kwargs, "device": "meta"})
    value = tracer.adopt(out, Weight(tuple(out.shape), out.element_size(), "constant"))
    tracer.recorder.record("zeros", (), (value,))
    return out


def _roll(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("input", "shifts", "dims"), args, kwargs)
    x, shifts, dims = bound["input"], bound["shifts"], bound.get("dims")
    sides = [(n,) if isinstance(n, int) else tuple(n or ()) for n in (shifts, dims)]
    fits = len(sides[0]) == len(sides[1]) and all(-x.dim() <= n < x.dim() for n in sides[1])
    if not fits or not is_activation(tracer, x):
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    out, result = tracer.empty(value.shape, x.dtype, value.itemsize)
    tracer.recorder.record("roll", (value,), (result,), copied=True)
    return out


def _pad(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("input", "pad", "mode", "value"), args, kwargs)
    x = bound["input"]
    if not is_activation(tracer, x) or not all(type(side) is int for side in bound["pad"]):
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    shape = shapes.padded(value.shape, bound["pad"])
    mode, pads = bound.get("mode", "constant"), bound["pad"]
    # A mirrored border takes from the other side of the edge, which must be there.
    limits = [side - (mode == "reflect") for side in reversed(value.shape) for _ in (0, 1)]
    beyond = mode in ("reflect", "circular") and any(map(gt, pads, limits))
    if beyond or len(pads) % 2 or len(pads) > len(limits) or min(shape, default=0) < 0:
        rejected(tracer, func, args, kwargs, f"{value.shape} cannot be padded by {tuple(pads)}")
    out, result = tracer.like(x, shape)
    tracer.recorder.record("pad", (value,), (result,), copied=True)
    return out


def _view(op: str) -> Rule:
    """A view costs nothing; a ``reshape`` that must copy is recorded as a copy."""

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        x = args[0] if args else None
        is_weight = isinstance(x, torch.Tensor) and tracer.weight(x) is not None
        if not isinstance(x, torch.Tensor) or not (is_weight or x.device.type == "meta"):
            return fallback(tracer, func, args, kwargs)
        seen = tracer.on_meta(x) if is_weight else x
        value = tracer.value(seen)
        result = None if kwargs else _in_order(op, seen, args[1:])
        if result is None:
            result = func(seen, *args[1:], **kwargs)
        if result is seen:
            return x
        parts = result if isinstance(result, (tuple, list)) else (result,)
        copied = bool(parts) and not tracer.shares_memory(parts[0])
        if copied and is_weight:
            return fallback(tracer, func, args, kwargs)
        outputs = [tracer.adopt_view(part, value.weight) for part in parts]
        name = "reshape_copy" if copied and op in ("reshape", "flatten") else op
        if value.weight is None:
            tracer.recorder.record(name, (value,), outputs, copied=copied)
        elif copied:
            tracer.recorder.record(name, (), outputs, others=(value.weight,), copied=True)
        return result

    return rule


def _in_order(op: str, x: torch.Tensor, sides: Arguments) -> torch.Tensor | None:
    """What ``reshape`` and ``contiguous`` put out of what lies in another order; else None."""
    if x.is_contiguous() or not (op == "reshape" or (op == "contiguous" and not sides)):
        return None
    return reshaped(x, sides) if sides else torch.empty(x.shape, dtype=x.dtype, device=META)


_slice = _view("slice")


def _is_plain(index: object) -> bool:
    """True for an index of numbers, slices, None and ``...``: a view, no look-up."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or type(part) is int or isinstance(part, slice)
        for part in parts
    )


def _without_places(index: object) -> Any:
    """The index with 0 for each single place that is not known: whichever it is, a view of it.

    A list of numbers becomes a constant, because torch would make it one out of sight.
    """
    if isinstance(index, tuple):
        return tuple(_without_places(part) for part in index)
    if isinstance(index, list) and index and {*map(type, index)} <= {int, bool}:
        return torch.tensor(index)
    if not isinstance(index, torch.Tensor) or index.dim() or Tracer.real(index) is not None:
        return index
    return index if index.dtype in (torch.bool, torch.uint8) else 0


def _getitem(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    if _is_plain(args[1]):
        return _slice(tracer, func, args, kwargs)
    index = _without_places(args[1])
    rule = _slice if _is_plain(index) else _look_up
    return rule(tracer, func, (args[0], index), kwargs)


def _look_up(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Rows by one tensor of their numbers, as tables of relative positions are read."""
    table, places = args
    known = isinstance(places, torch.Tensor) and places.dtype in (torch.int64, torch.int32)
    if not known or not without_values(tracer, (table,)) or not table.is_contiguous():
        return fallback(tracer, func, args, kwargs)
    values, weights = tracer.split((table, tracer.on_meta(places)))
    shape = (*places.shape, *table.shape[1:])
    if values:
        out, result = tracer.empty(shape, table.dtype, table.element_size())
    else:
        out, result = made_of(tracer, weights, shape, table.dtype)
    record_call(tracer, "index", "index", args, values, weights, [result], in_place=False)
    return out


def _setitem(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    target, index, source = args
    index = _without_places(index)
    if not _is_plain(index) or target.device.type != "meta":
        return fallback(tracer, func, (target, index, source), kwargs)
    part = target[index]
    if isinstance(source, torch.Tensor):
        sides = tuple(source.shape)
        while len(sides) > part.dim() and sides[0] == 1:
            sides = sides[1:]
        if shapes.broadcast([tuple(part.shape), sides]) != tuple(part.shape):
            raise ValueError(f"{tuple(source.shape)} cannot be written to {tuple(part.shape)}")
    check_writable(target)
    region = tracer.adopt(part)
    values, weights = tracer.split((source,))
    tracer.recorder.record("copy", values, (region,), others=weights, copied=True, in_place=True)
    tracer.rewritten(target)
    return None


def _to(tracer: Tracer, _: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``tensor.to``: the device is ignored, a change of type is a copy."""
    x = args[0]
    other = next((arg for arg in args[1:] if isinstance(arg, torch.Tensor)), None)
    if other is not None:
        dtype: torch.dtype | None = other.dtype
    else:
        dtype = torch._C._nn._parse_to(*args[1:], **kwargs)[1]
    if dtype is None or dtype is x.dtype:
        return x
    return fallback(tracer, torch.Tensor.to, (x, dtype), {})


RULES: dict[str, Rule] = {
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "pad": _pad,
    "roll": _roll,
    "zeros": _zeros,
    "to": _to,
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "__slice__": _slice,
    **{
        name: _view(name)
        for name in (
            *("view", "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze"),
            *("chunk", "split", "unbind", "narrow", "expand", "expand_as", "view_as", "select"),
            *("swapaxes", "movedim", "unflatten", "tensor_split", "contiguous", "t", "reshape_as"),
        )
    },
}
