"""Rules for pools, resizing and reductions."""

from __future__ import annotations

import math
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.rules.simple import (
    Arguments,
    Keywords,
    Rule,
    bind,
    copied_bytes,
    is_activation,
    rejected,
)
from cspbench.analysis.tracer import Tracer

_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")


_INTERPOLATE = ("input", "size", "scale_factor", "mode")
#: Modes whose kernel for channels last serves small results of other images, too.
_LAST = ("nearest", "nearest-exact", "bilinear")
_SMALL = 128
#: Spatial dimensions that a mode of interpolation takes.
_MODES = {
    **dict.fromkeys(("nearest", "nearest-exact", "area"), (1, 2, 3)),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}


def _pool(op: str, dims: int, maximum: bool) -> Rule:
    names = _MAX if maximum else _AVG

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(names, args, kwargs)
        x = bound["input"]
        value = tracer.value(x)
        shape = value.shape
        if len(shape) != dims + 2 or bound.get("return_indices") or not is_activation(tracer, x):
            return fallback(tracer, func, args, kwargs)
        kernel = shapes.tuple_of(bound["kernel_size"], dims)
        # None and an empty tuple both mean: as far as the window is wide.
        stride = shapes.tuple_of(bound.get("stride") or kernel, dims)
        padding = shapes.tuple_of(bound.get("padding", 0), dims)
        dilation = shapes.tuple_of(bound.get("dilation", 1), dims)
        ceil = (bool(bound.get("ceil_mode", False)),) * dims
        size = tuple(map(shapes.pool_size, shape[2:], kernel, stride, padding, dilation, ceil))
        if min(size) < 1:
            raise ValueError(f"a window of {kernel} does not fit into an input of {shape[2:]}")
        if any(
            pad < 0 or 2 * pad > d * (k - 1) + 1
            for pad, d, k in zip(padding, dilation, kernel, strict=True)
        ):
            rejected(tracer, func, args, kwargs, f"{padding} pads more than half of {kernel}")
        out, result = tracer.like(x, (*shape[:2], *size))
        indices = 8 * result.elements if maximum else 0  # int64, dropped at once in inference
        tracer.recorder.record(
            op,
            (value,),
            (result,),
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            temporary_bytes=indices + copied_bytes(x),
            saved_extra_bytes=indices,
        )
        return out

    return rule


def _adaptive_avg_pool(op: str, dims: int) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(("input", "output_size"), args, kwargs)
        x = bound["input"]
        value = tracer.value(x)
        sides = value.shape[2:]
        if len(sides) != dims or not is_activation(tracer, x):
            return fallback(tracer, func, args, kwargs)
        asked = bound["output_size"]
        asked = (asked,) * dims if asked is None else shapes.tuple_of(asked, dims)
        size = tuple(side if w is None else w for w, side in zip(asked, sides, strict=True))
        out, result = tracer.like(x, (*value.shape[:2], *size))
        tracer.recorder.record(
            # PyTorch takes the mean where one element is left; that keeps nothing for backward.
            "global_avg_pool" if set(size) == {1} else op,
            (value,),
            (result,),
            kernel=shapes.covered(sides, size),
            stride=tuple(max(i // o, 1) for i, o in zip(sides, size, strict=True)),
            temporary_bytes=copied_bytes(x),
        )
        return out

    return rule


def _axes(dim: object) -> tuple[int, ...] | None:
    """Axes of a reduction as a tuple; None if they are not plain numbers."""
    if isinstance(dim, int):
        return (dim,)
    if isinstance(dim, (tuple, list)) and dim and all(type(axis) is int for axis in dim):
        return tuple(dim)
    return None


def _reduction(op: str) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(("input", "dim", "keepdim"), args, kwargs)
        x, axes = bound.get("input"), _axes(bound.get("dim"))
        special = "out" in bound or bound.get("dtype") is not None
        if axes is None or special or not isinstance(x, torch.Tensor):
            return fallback(tracer, func, args, kwargs)
        if not is_activation(tracer, x):
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        rank = len(value.shape)
        if not all(-rank <= axis < rank for axis in axes):
            return fallback(tracer, func, args, kwargs)
        if len({axis % rank for axis in axes}) != len(axes):
            rejected(tracer, func, args, kwargs, f"{op} over the same dimension twice: {axes}")
        shape = shapes.reduced(value.shape, axes, bool(bound.get("keepdim", False)))
        out, result = tracer.empty(shape, x.dtype, value.itemsize)
        places = {axis % rank for axis in axes}
        if op == "mean" and rank == 4 and places == {2, 3}:
            sides = value.shape[2:]
            tracer.recorder.record(
                "global_avg_pool", (value,), (result,), kernel=sides, stride=sides
            )
        elif op == "amax" and rank == 5 and places in ({1}, {2}):
            # (n, c, k, h, w) reduced over k: the maximum of groups of channels, maxout.
            depth = value.shape[axes[0]]
            tracer.recorder.record("channel_max_pool", (value,), (result,), kernel=(depth,))
        else:
            tracer.recorder.record(op, (value,), (result,))
        return out

    return rule


def _normalize(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``normalize``: a norm, its least value, and the division by it."""
    bound = bind(("input", "p", "dim", "eps", "out"), args, kwargs)
    x, axes = bound["input"], _axes(bound.get("dim", 1))
    known = axes is not None and bound.get("out") is None and is_activation(tracer, x)
    if axes is None or not known or not all(-x.dim() <= axis < x.dim() for axis in axes):
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    shape = shapes.reduced(value.shape, axes, True)
    norm, length = tracer.empty(shape, x.dtype, value.itemsize)
    tracer.recorder.record("linalg_vector_norm", (value,), (length,))
    least, bounded = tracer.empty(shape, x.dtype, value.itemsize)
    tracer.recorder.record("clamp_min", (length,), (bounded,))
    del norm
    out, result = tracer.like(x, value.shape)
    tracer.recorder.record("div", (value, bounded), (result,))
    del least
    return out


def _turned_bytes(mode: str, x: torch.Tensor, size: tuple[int, ...], out: torch.Tensor) -> int:
    """Copies with their channels last, of a small image and of its result, that torch makes."""
    if mode not in _LAST or len(size) != 2 or sum(size) > _SMALL:
        return 0
    return 0 if x.is_contiguous(memory_format=torch.channels_last) else x.nbytes + out.nbytes


def _interpolate(names: tuple[str, ...], mode_of_op: str = "") -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(names, args, kwargs)
        x, size, scale = bound["input"], bound.get("size"), bound.get("scale_factor")
        if not is_activation(tracer, x) or (size is None and scale is None):
            return fallback(tracer, func, args, kwargs)
        shape = tracer.value(x).shape
        dims = len(shape) - 2
        mode = mode_of_op or bound.get("mode", "nearest")
        misfit = dims not in _MODES.get(mode, ()) or (size is not None and scale is not None)
        if misfit and names is _INTERPOLATE:
            rejected(tracer, func, args, kwargs, f"{mode} interpolation of {shape}")
        if size is not None:
            sides = shapes.tuple_of(size, dims)
        else:
            factors = scale if isinstance(scale, (tuple, list)) else (scale or 1,) * dims
            sides = tuple(math.floor(s * f) for s, f in zip(shape[2:], factors, strict=True))
        out, result = tracer.like(x, (*shape[:2], *sides))
        turned = 0 if bound.get("antialias") else _turned_bytes(mode, x, sides, out)
        turned += copied_bytes(x) if mode == "area" else 0
        tracer.recorder.record(
            "interpolate",
            (tracer.value(x),),
            (result,),
            kernel=shapes.interpolated(mode, shape[2:], sides),
            temporary_bytes=turned,
        )
        return out

    return rule


def _rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "interpolate": _interpolate(_INTERPOLATE),
        "normalize": _normalize,
    }
    for dims in (1, 2, 3):
        adaptive = f"adaptive_avg_pool{dims}d"
        rules[f"max_pool{dims}d"] = _pool(f"max_pool{dims}d", dims, maximum=True)
        rules[f"avg_pool{dims}d"] = _pool(f"avg_pool{dims}d", dims, maximum=False)
        rules[adaptive] = _adaptive_avg_pool(adaptive, dims)
    for name in ("mean", "sum", "amax", "amin"):
        rules[name] = _reduction(name)
    return rules


RULES: dict[str, Rule] = _rules()

#: As ATen takes the arguments.
ATEN_RULES: dict[str, Rule] = {
    **{
        f"upsample_nearest{n}d": _interpolate(("input", "size", "scale_factor"), "nearest")
        for n in (1, 2, 3)
    },
    **{
        f"upsample_{mode}2d": _interpolate(("input", "size", "align_corners", "scale_factor"), mode)
        for mode in ("bilinear", "bicubic")
    },
}
