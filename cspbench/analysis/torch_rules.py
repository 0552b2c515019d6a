"""First level of the tracer: rules for common PyTorch functions.

A rule computes the output shape in Python, makes the output and records the layer. Where the
arguments are of a kind that it does not know it hands over to the second level (`dispatch`), which
is slower and complete. Rules hold no formula of cost: those are in ``metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that everybody gives it)

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.record import Shape
from cspbench.analysis.recorder import Value
from cspbench.analysis.trace import DataDependentError, Tracer

Rule = Callable[[Tracer, Any, tuple[Any, ...], dict[str, Any]], Any]
RULES: dict[Any, Rule] = {}

_SPACES: tuple[Any, ...] = (torch, torch.Tensor, F, torch._C._nn)


def _functions(name: str) -> list[Any]:
    found = [getattr(space, name, None) for space in _SPACES]
    return [function for function in found if callable(function)]


def _bind(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = dict(zip(names, args, strict=False))
    bound.update(kwargs)
    return bound


def _like(tracer: Tracer, like: torch.Tensor, shape: Shape, value: Value) -> torch.Tensor:
    """A new activation of ``shape`` in the memory format of ``like``."""
    if like.is_contiguous():
        return tracer.empty(shape, like.dtype, value.itemsize)
    if shape == value.shape:
        out = torch.empty_like(like, device="meta")
    elif len(shape) == 4 and like.is_contiguous(memory_format=torch.channels_last):
        out = torch.empty(shape, dtype=like.dtype, device="meta", memory_format=torch.channels_last)
    else:
        return tracer.empty(shape, like.dtype, value.itemsize)
    tracer.adopt(out)
    return out


# -- convolution and products ---------------------------------------------------------------------

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONV_T = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def _conv(op: str, dims: int, transposed: bool) -> Rule:
    names = _CONV_T if transposed else _CONV

    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = _bind(names, args, kwargs)
        x, w, b = bound["input"], bound["weight"], bound.get("bias")
        weight = tracer.weight(w)
        value = tracer.value(x)
        shape = value.shape
        padding = bound.get("padding", 0)
        if weight is None or len(shape) != dims + 2 or value.weight is not None:
            return fallback(tracer, func, args, kwargs)
        groups = bound.get("groups", 1)
        stride = shapes.tuple_of(bound.get("stride", 1), dims)
        dilation = shapes.tuple_of(bound.get("dilation", 1), dims)
        kernel = weight.shape[2:]
        expected = weight.shape[0] if transposed else weight.shape[1] * groups
        if shape[1] != expected:
            raise ValueError(f"a convolution of {expected} channels was given {shape[1]}")
        if isinstance(padding, str):
            if padding == "same":
                size = shape[2:]
            else:
                size = _sizes(shape, kernel, stride, (0,) * dims, dilation)
        else:
            padding = shapes.tuple_of(padding, dims)
            if transposed:
                more = shapes.tuple_of(bound.get("output_padding", 0), dims)
                size = tuple(
                    map(
                        shapes.conv_transpose_size,
                        shape[2:],
                        kernel,
                        stride,
                        padding,
                        dilation,
                        more,
                    )
                )
            else:
                size = _sizes(shape, kernel, stride, padding, dilation)
        if min(size) < 1:
            raise ValueError(f"a window of {kernel} does not fit into an input of {shape[2:]}")
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        out = _like(tracer, x, (shape[0], channels, *size), value)
        bias = tracer.weight(b) if b is not None else None
        tracer.recorder.record(
            op,
            (value,),
            (out._cspbench_value,),
            weight,
            bias=bias,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            groups=groups,
            transposed=transposed,
        )
        return out

    return rule


def _sizes(
    shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> tuple[int, ...]:
    return tuple(map(shapes.conv_size, shape[2:], kernel, stride, padding, dilation))


def _linear(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("input", "weight", "bias"), args, kwargs)
    x, b = bound["input"], bound.get("bias")
    weight = tracer.weight(bound["weight"])
    value = tracer.value(x)
    if weight is None or len(weight.shape) != 2 or value.weight is not None or not value.shape:
        return fallback(tracer, func, args, kwargs)
    if value.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"a linear layer of {weight.shape[1]} features was given {value.shape[-1]}"
        )
    out = tracer.empty((*value.shape[:-1], weight.shape[0]), x.dtype, value.itemsize)
    bias = tracer.weight(b) if b is not None else None
    tracer.recorder.record("linear", (value,), (out._cspbench_value,), weight, bias=bias)
    return out


def _matmul(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or len(args) != 2 or not all(isinstance(arg, torch.Tensor) for arg in args):
        return fallback(tracer, func, args, kwargs)
    values, _ = tracer.split(args)
    if len(values) != 2 or min(len(value.shape) for value in values) < 2:
        return fallback(tracer, func, args, kwargs)
    left, right = values
    out = tracer.empty(shapes.matmul(left.shape, right.shape), args[0].dtype, left.itemsize)
    tracer.recorder.record("matmul", values, (out._cspbench_value,))
    return out


def _attention(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("query", "key", "value", "attn_mask"), args, kwargs)
    q, k, v, mask = (bound.get(name) for name in ("query", "key", "value", "attn_mask"))
    values, weights = tracer.split((q, k, v, mask))
    if weights or len(values) < 3 or not isinstance(q, torch.Tensor):
        return fallback(tracer, func, args, kwargs)
    query = values[0]
    out = tracer.empty((*query.shape[:-1], values[2].shape[-1]), q.dtype, query.itemsize)
    result = out._cspbench_value
    # Backward keeps the output too and the log-sum-exp of each row in float32.
    extra = result.storage.nbytes + 4 * math.prod(query.shape[:-1])
    result.storage.saved = True
    tracer.recorder.record(
        "scaled_dot_product_attention", values, (result,), saved_extra_bytes=extra
    )
    return out


# -- normalisation, activation, elementwise -------------------------------------------------------


def _normalise(op: str, names: tuple[str, ...]) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = _bind(names, args, kwargs)
        x = bound["input"]
        value = tracer.value(x)
        statistics = ("weight", "bias", "running_mean", "running_var")
        operands = [bound[n] for n in statistics if bound.get(n) is not None]
        values, weights = tracer.split(operands)
        if values or value.weight is not None:
            return fallback(tracer, func, args, kwargs)
        out = _like(tracer, x, value.shape, value)
        tracer.recorder.record(
            op,
            (value,),
            (out._cspbench_value,),
            others=weights,
            saved_extra_bytes=_statistics(op, value, bound) * value.itemsize,
        )
        return out

    return rule


def _statistics(op: str, value: Value, bound: dict[str, Any]) -> int:
    """Elements of mean and inverse deviation that backward keeps."""
    shape = value.shape
    if op == "batch_norm":
        return 2 * shape[1]
    if op == "group_norm":
        return 2 * shape[0] * int(bound["num_groups"])
    if op == "instance_norm":
        return 2 * shape[0] * shape[1]
    normalised = math.prod(bound["normalized_shape"])
    return (1 if op == "rms_norm" else 2) * value.elements // normalised


def _activation(op: str, in_place: bool = False) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        if value.weight is not None or tracer.weight(x) is not None:
            return fallback(tracer, func, args, kwargs)
        if in_place or kwargs.get("inplace", False):
            tracer.recorder.record(op, (value,), (tracer.rewritten(x),), in_place=True)
            return x
        out = _like(tracer, x, value.shape, value)
        tracer.recorder.record(op, (value,), (out._cspbench_value,))
        return out

    return rule


def _with_inplace_argument(op: str, position: int) -> Rule:
    """An activation whose ``inplace`` flag may be positional."""
    plain, in_place = _activation(op), _activation(op, in_place=True)

    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flag = args[position] if len(args) > position else kwargs.get("inplace", False)
        return (in_place if flag else plain)(tracer, func, args, kwargs)

    return rule


def _elementwise(op: str, in_place: bool = False, compares: bool = False) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if "other" in kwargs and isinstance(kwargs["other"], torch.Tensor):
            tensors.append(kwargs["other"])
        first = tensors[0] if tensors else None
        if first is None or "out" in kwargs:
            return fallback(tracer, func, args, kwargs)
        dtype = first.dtype
        # Promotion is torch's business: only operands of one floating type are done here.
        if not dtype.is_floating_point or any(t.dtype is not dtype for t in tensors):
            return fallback(tracer, func, args, kwargs)
        values, weights = tracer.split(tensors)
        if not values:
            return fallback(tracer, func, args, kwargs)
        shape = values[0].shape
        if weights or any(value.shape != shape for value in values):
            shape = shapes.broadcast([v.shape for v in values] + [tuple(t.shape) for t in tensors])
        if in_place:
            if first is not args[0] or tracer.value(first).shape != shape:
                return fallback(tracer, func, args, kwargs)
            tracer.recorder.record(
                op, values, (tracer.rewritten(first),), others=weights, in_place=True
            )
            return first
        if compares:
            out = tracer.empty(shape, torch.bool, 1)
        else:
            source = next(t for t in tensors if tracer.weight(t) is None)
            out = _like(tracer, source, shape, tracer.value(source))
        tracer.recorder.record(op, values, (out._cspbench_value,), others=weights)
        return out

    return rule


# -- pools, resizing, reductions ------------------------------------------------------------------

_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")


def _pool(op: str, dims: int, maximum: bool) -> Rule:
    names = _MAX if maximum else _AVG

    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = _bind(names, args, kwargs)
        x = bound["input"]
        value = tracer.value(x)
        shape = value.shape
        if len(shape) != dims + 2 or bound.get("return_indices"):
            return fallback(tracer, func, args, kwargs)
        kernel = shapes.tuple_of(bound["kernel_size"], dims)
        given = bound.get("stride")
        # None and an empty tuple both mean: as far as the window is wide.
        stride = shapes.tuple_of(given, dims) if given or given == 0 else kernel
        padding = shapes.tuple_of(bound.get("padding", 0), dims)
        dilation = shapes.tuple_of(bound.get("dilation", 1), dims)
        ceil = (bool(bound.get("ceil_mode", False)),) * dims
        size = tuple(map(shapes.pool_size, shape[2:], kernel, stride, padding, dilation, ceil))
        if min(size) < 1:
            raise ValueError(f"a window of {kernel} does not fit into an input of {shape[2:]}")
        out = _like(tracer, x, (*shape[:2], *size), value)
        result = out._cspbench_value
        indices = 8 * result.elements if maximum else 0  # int64, dropped at once
        tracer.recorder.record(
            op,
            (value,),
            (result,),
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            temporary_bytes=indices,
            saved_extra_bytes=indices,
        )
        return out

    return rule


def _adaptive_avg_pool(op: str, dims: int) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = _bind(("input", "output_size"), args, kwargs)
        x = bound["input"]
        value = tracer.value(x)
        shape = value.shape
        if len(shape) != dims + 2:
            return fallback(tracer, func, args, kwargs)
        wanted = bound["output_size"]
        wanted = (wanted,) * dims if wanted is None else shapes.tuple_of(wanted, dims)
        size = tuple(side if w is None else w for w, side in zip(wanted, shape[2:], strict=True))
        out = _like(tracer, x, (*shape[:2], *size), value)
        everything = set(size) == {1}  # PyTorch takes the mean then, which keeps nothing
        tracer.recorder.record(
            "global_avg_pool" if everything else op,
            (value,),
            (out._cspbench_value,),
            kernel=tuple(-(-i // o) for i, o in zip(shape[2:], size, strict=True)),
            stride=tuple(max(i // o, 1) for i, o in zip(shape[2:], size, strict=True)),
        )
        return out

    return rule


def _mean(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("input", "dim", "keepdim"), args, kwargs)
    x, dim = bound.get("input"), bound.get("dim")
    if not isinstance(x, torch.Tensor) or dim is None or bound.get("dtype") or "out" in bound:
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    if not x.dtype.is_floating_point or value.weight is not None:
        return fallback(tracer, func, args, kwargs)
    shape = shapes.reduced(value.shape, axes, bool(bound.get("keepdim", False)))
    out = tracer.empty(shape, x.dtype, value.itemsize)
    spatial = len(value.shape) == 4 and {axis % 4 for axis in axes} == {2, 3}
    tracer.recorder.record(
        "global_avg_pool" if spatial else "mean",
        (value,),
        (out._cspbench_value,),
        kernel=value.shape[2:] if spatial else (),
        stride=value.shape[2:] if spatial else (),
    )
    return out


def _amax(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Maximum over one axis of an image tensor is a channel max-pool (maxout)."""
    bound = _bind(("input", "dim", "keepdim"), args, kwargs)
    x, dim = bound.get("input"), bound.get("dim")
    if not isinstance(x, torch.Tensor) or not isinstance(dim, (int, tuple, list)):
        return fallback(tracer, func, args, kwargs)
    value = tracer.value(x)
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    if value.weight is not None or "out" in bound:
        return fallback(tracer, func, args, kwargs)
    out = tracer.empty(
        shapes.reduced(value.shape, axes, bool(bound.get("keepdim", False))),
        x.dtype,
        value.itemsize,
    )
    rank = len(value.shape)
    channels = rank == 5 and len(axes) == 1 and axes[0] % rank in (1, 2)
    tracer.recorder.record(
        "channel_max_pool" if channels else "amax", (value,), (out._cspbench_value,)
    )
    return out


def _interpolate(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("input", "size", "scale_factor"), args, kwargs)
    x, size, scale = bound["input"], bound.get("size"), bound.get("scale_factor")
    value = tracer.value(x)
    shape = value.shape
    dims = len(shape) - 2
    if size is not None:
        sides = shapes.tuple_of(size, dims)
    elif scale is not None:
        factors = tuple(scale) if isinstance(scale, (tuple, list)) else (scale,) * dims
        sides = tuple(math.floor(s * f) for s, f in zip(shape[2:], factors, strict=True))
    else:
        return fallback(tracer, func, args, kwargs)
    out = _like(tracer, x, (*shape[:2], *sides), value)
    tracer.recorder.record("interpolate", (value,), (out._cspbench_value,))
    return out


def _softmax(op: str) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else kwargs.get("input")
        if (
            not isinstance(x, torch.Tensor)
            or kwargs.get("dtype") is not None
            or not x.dtype.is_floating_point
        ):
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        out = tracer.empty(value.shape, x.dtype, value.itemsize)
        tracer.recorder.record(op, (value,), (out._cspbench_value,))
        return out

    return rule


# -- data movement --------------------------------------------------------------------------------


def _cat(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("tensors", "dim"), args, kwargs)
    tensors: Sequence[torch.Tensor] = bound["tensors"]
    axis = bound.get("dim", bound.get("axis", 0))
    values, weights = tracer.split(tensors)
    uniform = len({t.dtype for t in tensors}) == 1
    if weights or not values or not uniform or "out" in bound or not isinstance(axis, int):
        return fallback(tracer, func, args, kwargs)
    shape = shapes.concatenate([value.shape for value in values], axis)
    out = _like(tracer, tensors[0], shape, values[0])
    tracer.recorder.record("cat", values, (out._cspbench_value,), copied=True)
    return out


def _pad(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("input", "pad", "mode", "value"), args, kwargs)
    x = bound["input"]
    value = tracer.value(x)
    if tracer.weight(x) is not None or value.weight is not None:
        return fallback(tracer, func, args, kwargs)
    shape = shapes.padded(value.shape, bound["pad"])
    out = _like(tracer, x, shape, value)
    tracer.recorder.record("pad", (value,), (out._cspbench_value,), copied=True)
    return out


def _view(op: str) -> Rule:
    """Views cost nothing; a ``reshape`` or ``contiguous`` that must copy is recorded as a copy."""

    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else None
        if not isinstance(x, torch.Tensor) or x.device.type != "meta" or tracer.weight(x):
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        result = func(*args, **kwargs)
        if result is x:
            return result
        parts = result if isinstance(result, (tuple, list)) else (result,)
        copied = not tracer.shares_memory(parts[0])
        outputs = [tracer.adopt(part, value.weight) for part in parts]
        if value.weight is None:
            name = f"{op}_copy" if copied and op in ("reshape", "flatten") else op
            name = "reshape_copy" if name == "flatten_copy" else name
            tracer.recorder.record(name, (value,), outputs, copied=copied)
        return result

    return rule


def _getitem(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    # `in` would compare tensors: look at the types only.
    plain = all(part is None or isinstance(part, (int, slice, type(Ellipsis))) for part in index)
    if not plain or any(isinstance(part, bool) for part in index):
        return fallback(tracer, func, args, kwargs)
    return _SLICE(tracer, func, args, kwargs)


_SLICE = _view("slice")


def _setitem(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target, index, source = args
    parts = index if isinstance(index, tuple) else (index,)
    plain = all(part is None or isinstance(part, (int, slice, type(Ellipsis))) for part in parts)
    if not plain or target.device.type != "meta":
        return fallback(tracer, func, args, kwargs)
    region = target[index]
    view = tracer.adopt(region)
    values, weights = tracer.split((source,))
    tracer.recorder.record("copy", values, (view,), others=weights, copied=True, in_place=True)
    tracer.rewritten(target)
    return None


def _same(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Moves between devices, and dropout in evaluation mode, change nothing here."""
    return args[0] if args else kwargs["input"]


def _dropout(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = _bind(("input", "p", "training", "inplace"), args, kwargs)
    if bound.get("training", True):
        return fallback(tracer, func, args, kwargs)
    return bound["input"]


def _to(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``tensor.to``: the device is ignored, a change of type is a copy."""
    x = args[0]
    other = next((arg for arg in args[1:] if isinstance(arg, torch.Tensor)), None)
    if other is not None:
        dtype: torch.dtype | None = other.dtype
    else:
        dtype = torch._C._nn._parse_to(*args[1:], **kwargs)[1]
    if x.device.type != "meta" and tracer.weight(x) is None:
        return func(x, dtype) if dtype is not None else x
    if dtype is None or dtype is x.dtype:
        return x
    source = tracer.on_meta(x)
    result = source.to(dtype)
    values, weights = tracer.split((x,))
    tracer.recorder.record("to", values, (tracer.adopt(result),), others=weights, copied=True)
    return result


# -- questions ------------------------------------------------------------------------------------


def _ask(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Shape, type and layout: known, free, not operators."""
    return func(*args, **kwargs)


def _value_of(what: str) -> Rule:
    def rule(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0] if args else None
        if isinstance(x, torch.Tensor) and x.device.type == "meta":
            raise DataDependentError(f"{what} needs the values of a tensor")
        return func(*args, **kwargs)

    return rule


def _register() -> None:
    for dims in (1, 2, 3):
        for name, rule in (
            (f"conv{dims}d", _conv(f"conv{dims}d", dims, False)),
            (f"conv_transpose{dims}d", _conv(f"conv_transpose{dims}d", dims, True)),
            (f"max_pool{dims}d", _pool(f"max_pool{dims}d", dims, True)),
            (f"avg_pool{dims}d", _pool(f"avg_pool{dims}d", dims, False)),
            (f"adaptive_avg_pool{dims}d", _adaptive_avg_pool(f"adaptive_avg_pool{dims}d", dims)),
        ):
            for function in _functions(name):
                RULES[function] = rule
    norm = ("input", "running_mean", "running_var", "weight", "bias", "training")
    shaped = ("input", "normalized_shape", "weight", "bias", "eps")
    rules: dict[str, Rule] = {
        "linear": _linear,
        "scaled_dot_product_attention": _attention,
        "batch_norm": _normalise("batch_norm", norm),
        "instance_norm": _normalise("instance_norm", norm),
        "layer_norm": _normalise("layer_norm", shaped),
        "rms_norm": _normalise("rms_norm", ("input", "normalized_shape", "weight")),
        "group_norm": _normalise("group_norm", ("input", "num_groups", "weight", "bias")),
        "mean": _mean,
        "amax": _amax,
        "interpolate": _interpolate,
        "softmax": _softmax("softmax"),
        "log_softmax": _softmax("log_softmax"),
        "pad": _pad,
        "dropout": _dropout,
        "dropout1d": _dropout,
        "dropout2d": _dropout,
        "dropout3d": _dropout,
        "alpha_dropout": _dropout,
        "to": _to,
        "__getitem__": _getitem,
        "__setitem__": _setitem,
    }
    rules |= dict.fromkeys(("cat", "concat", "concatenate"), _cat)
    rules |= dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _matmul)
    for name in ("relu", "leaky_relu", "silu", "mish", "hardswish", "hardsigmoid", "relu6", "elu"):
        position = {"leaky_relu": 2, "elu": 2}.get(name, 1)
        rules[name] = _with_inplace_argument(name, position)
        rules[f"{name}_"] = _activation(name, in_place=True)
    rules["hardtanh"] = _with_inplace_argument("hardtanh", 3)
    for name in ("sigmoid", "tanh", "gelu", "softplus", "exp", "sqrt", "rsqrt", "abs", "clamp"):
        rules[name] = _activation(name)
        rules[f"{name}_"] = _activation(name, in_place=True)
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "square", "neg"):
        rules[name] = _elementwise(name)
        rules[f"{name}_"] = _elementwise(name, in_place=True)
    for name in ("radd", "rsub", "rmul", "rtruediv", "rdiv"):
        rules[f"__{name}__"] = _elementwise({"rsub": "sub", "radd": "add"}.get(name, name[1:4]))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        rules[name] = _elementwise(name, compares=True)
    for name in (
        *("view", "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "chunk"),
        *("split", "unbind", "narrow", "expand", "expand_as", "view_as", "swapaxes", "movedim"),
        *("unflatten", "select", "tensor_split", "contiguous", "t"),
    ):
        rules[name] = _view(name)
    rules |= dict.fromkeys(("cpu", "cuda", "detach"), _same)
    for name in ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"):
        rules[name] = _value_of(f"{name}()" if not name.startswith("__") else name.strip("_"))
    for name in (
        "__array__",
        "nonzero",
        "unique",
        "masked_select",
        "bincount",
        "equal",
        "allclose",
    ):
        rules[name] = _value_of(f"{name.strip('_')}()")
    for name in (
        *("size", "dim", "numel", "stride", "is_contiguous", "element_size", "storage_offset"),
        *("is_floating_point", "is_complex", "nelement", "ndimension", "get_device", "data_ptr"),
        *("is_tensor", "__len__", "__hash__", "__repr__", "__format__", "type", "untyped_storage"),
    ):
        rules[name] = _ask
    for name, rule in rules.items():
        for function in _functions(name):
            RULES[function] = rule
    RULES[torch._C._set_grad_enabled] = _ask
    for name in (
        *("shape", "dtype", "device", "ndim", "is_cuda", "is_meta", "requires_grad", "layout"),
        *("is_sparse", "is_quantized", "grad_fn", "is_nested", "itemsize", "nbytes", "is_cpu"),
    ):
        if hasattr(torch.Tensor, name):
            RULES[getattr(torch.Tensor, name).__get__] = _ask


_register()
