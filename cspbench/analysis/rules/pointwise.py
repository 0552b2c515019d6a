"""Rules for normalisation, activations, softmax and elementwise arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.calls import check_writable
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
    made_of,
    rejected,
    without_values,
)
from cspbench.analysis.tracer import Tracer


def _normalise(op: str, names: tuple[str, ...]) -> Rule:
    statistics = ("weight", "bias", "running_mean", "running_var")

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bound = bind(names, args, kwargs)
        x = bound["input"]
        values, weights = tracer.split([bound[n] for n in statistics if bound.get(n) is not None])
        made = _made_of_weights(tracer, x) if op == "batch_norm" else None
        if values or not (is_activation(tracer, x) or made):
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        wrong = _misfit(op, value, bound, weights)
        if wrong:
            rejected(tracer, func, args, kwargs, f"{op} of an input of {value.shape}: {wrong}")
        statistics_bytes = _kept_statistics(op, value, bound) * value.itemsize
        copied = _passing_bytes(op, x, statistics_bytes)
        rows = op in ("layer_norm", "rms_norm")
        out, result = (
            tracer.empty(value.shape, x.dtype, value.itemsize)
            if rows
            else tracer.like(x, value.shape)
        )
        if made is not None:  # as weight standardisation does
            result.weight = result.storage.weight = made
            tracer.recorder.record(op, (), (result,), others=(value.weight or made, *weights))
            return out
        tracer.recorder.record(
            op,
            (value,),
            (result,),
            others=weights,
            temporary_bytes=copied,
            saved_extra_bytes=statistics_bytes,
        )
        return out

    return rule


def _made_of_weights(tracer: Tracer, x: torch.Tensor) -> Weight | None:
    """What a function of weights alone puts out, in the shape of its input; None for others."""
    if tracer.weight(x) is not None or x.device.type != "meta" or not x.dtype.is_floating_point:
        return None
    value = tracer.value(x)
    if value.weight is None:
        return None
    role = "constant" if value.weight.role == "constant" else "derived"
    return Weight(value.shape, value.itemsize, role)


def _promoted(op: str, args: Arguments, kwargs: Keywords) -> torch.dtype | None:
    """The type of a sum or product of two operands of any types; None where that is not all."""
    if op not in ("add", "sub", "mul") or len(args) != 2 or kwargs:
        return None
    dtype = torch.result_type(*args)
    return None if dtype is torch.bool else dtype


def _of_weights(
    tracer: Tracer,
    op: str,
    tensors: Sequence[torch.Tensor],
    weights: list[Weight],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Elementwise arithmetic of weights alone, whose result is derived of them."""
    shape = shapes.broadcast([tuple(t.shape) for t in tensors])
    out, result = made_of(tracer, weights, shape, dtype)
    tracer.recorder.record(op, (), (result,), others=weights)
    return out


def _passing_bytes(op: str, x: torch.Tensor, statistics_bytes: int) -> int:
    """What a norm over each image holds besides its result: statistics, and a copy."""
    if op not in ("layer_norm", "group_norm"):
        return 0
    return statistics_bytes + copied_bytes(x, formats=op == "group_norm")


def _misfit(op: str, value: Value, bound: dict[str, Any], weights: list[Weight]) -> str:
    """What torch refuses of a normalisation, which its shape would let pass; "" if nothing."""
    shape = value.shape
    if op in ("layer_norm", "rms_norm"):
        expected: Shape = tuple(bound["normalized_shape"])
        if not expected or shape[-len(expected) :] != expected:
            return f"it ends with other sides than {expected}"
    else:
        expected = shape[1:2]
        wrong = _channel_misfit(op, value, bound) if expected else "it has no channels"
        if wrong:
            return wrong
    for weight in weights:
        if weight.shape != expected:
            return f"weights of {weight.shape} do not fit {expected}"
    return ""


def _channel_misfit(op: str, value: Value, bound: dict[str, Any]) -> str:
    """The same of a normalisation over channels."""
    shape = value.shape
    if op == "group_norm":
        groups = bound["num_groups"]
        return f"{groups} groups do not divide its channels" if shape[1] % groups else ""
    training = bound.get("training", op == "instance_norm")
    if bound.get("use_input_stats", training):
        alone = value.elements == shape[1] * (1 if op == "batch_norm" else shape[0])
        return "one value a channel has no deviation" if alone else ""
    if op == "batch_norm" and bound.get("running_mean") is None:
        return "it needs running statistics"
    return ""


def _kept_statistics(op: str, value: Value, bound: dict[str, Any]) -> int:
    """Elements of mean and inverse deviation that backward keeps."""
    shape = value.shape
    if op == "batch_norm":
        return 2 * shape[1]
    if op == "group_norm":
        return 2 * shape[0] * int(bound["num_groups"])
    if op == "instance_norm":
        return 2 * shape[0] * shape[1]
    normalised: int = math.prod(bound["normalized_shape"])
    rows = value.elements // max(normalised, 1)
    return rows if op == "rms_norm" else 2 * rows


def _activation(op: str, in_place: bool = False) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, torch.Tensor) or not is_activation(tracer, x) or "out" in kwargs:
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        if in_place:
            check_writable(x)
            tracer.recorder.record(op, (value,), (tracer.rewritten(x),), in_place=True)
            return x
        out, result = tracer.like(x, value.shape)
        tracer.recorder.record(op, (value,), (result,))
        return out

    return rule


def _with_flag(op: str, position: int) -> Rule:
    """An activation whose ``inplace`` flag is an argument."""
    plain, in_place = _activation(op), _activation(op, in_place=True)

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        flag = args[position] if len(args) > position else kwargs.get("inplace", False)
        return (in_place if flag else plain)(tracer, func, args, kwargs)

    return rule


def _softmax(op: str) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        x = args[0] if args else kwargs.get("input")
        converts = any(isinstance(arg, torch.dtype) for arg in (*args[2:], *kwargs.values()))
        if converts or not isinstance(x, torch.Tensor) or "out" in kwargs:
            return fallback(tracer, func, args, kwargs)
        if not is_activation(tracer, x):
            return fallback(tracer, func, args, kwargs)
        value = tracer.value(x)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if dim is not None and not -len(value.shape) <= dim < len(value.shape):
            rejected(tracer, func, args, kwargs, f"{op} over dimension {dim} of {value.shape}")
        out, result = tracer.empty(value.shape, x.dtype, value.itemsize)
        tracer.recorder.record(
            op, (value,), (result,), temporary_bytes=copied_bytes(x, formats=False)
        )
        return out

    return rule


def _elementwise(op: str, in_place: bool = False, compares: bool = False) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        operands = (*args, kwargs["other"]) if "other" in kwargs else args
        tensors = [operand for operand in operands if isinstance(operand, torch.Tensor)]
        if "out" in kwargs or any(type(x) is complex for x in operands):
            return fallback(tracer, func, args, kwargs)
        dtype = tensors[0].dtype
        uniform = dtype.is_floating_point and all(t.dtype is dtype for t in tensors)
        values, weights = tracer.split(tensors)
        if not values and not (in_place or compares) and without_values(tracer, tensors):
            made = dtype if uniform else _promoted(op, args, kwargs)
            if made is not None:
                return _of_weights(tracer, op, tensors, weights, made)
        if not uniform or not values:
            return fallback(tracer, func, args, kwargs)
        shape = values[0].shape
        if len(tensors) > 1:
            shape = shapes.broadcast([tuple(t.shape) for t in tensors])
        if in_place:
            target = args[0]
            if target.shape != shape or tracer.weight(target) is not None:
                return fallback(tracer, func, args, kwargs)
            check_writable(target)
            tracer.recorder.record(
                op, values, (tracer.rewritten(target),), others=weights, in_place=True
            )
            return target
        if compares:
            out, result = tracer.empty(shape, torch.bool, 1)
        else:
            source = next((t for t in tensors if tuple(t.shape) == shape), tensors[0])
            out, result = tracer.like(source, shape)
        tracer.recorder.record(op, values, (result,), others=weights)
        return out

    return rule


def _clamp(in_place: bool) -> Rule:
    """Bounds may be tensors, with which the shape broadcasts."""
    plain = _activation("clamp", in_place)

    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        bounds = (*args[1:], *kwargs.values())
        numbers = not any(isinstance(bound, torch.Tensor) for bound in bounds)
        return (plain if numbers else fallback)(tracer, func, args, kwargs)

    return rule


def _maximum(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Slices of one tensor, maximum by maximum, are a channel max-pool (maxout)."""
    out = _MAXIMUM(tracer, func, args, kwargs)
    if kwargs or len(args) != 2 or not all(is_activation(tracer, arg) for arg in args):
        return out
    first, second = (tracer.value(arg) for arg in args)
    if first.id == second.id or first.shape != second.shape:
        return out
    if first.storage is second.storage:
        fresh = 2  # both operands are new to the maximum
    elif first.storage.maxout_of is second.storage:
        fresh = 1
    else:
        return out
    tracer.value(out).storage.maxout_of = second.storage
    layer = tracer.recorder.layers[-1]
    layer.op, layer.kind, layer.kernel = "channel_max_pool", "max_pool", (fresh,)
    return out


_MAXIMUM = _elementwise("maximum")


def _rules() -> dict[str, Rule]:
    norm = ("input", "running_mean", "running_var", "weight", "bias", "training")
    shaped = ("input", "normalized_shape", "weight", "bias", "eps")
    rules: dict[str, Rule] = {
        "batch_norm": _normalise("batch_norm", norm),
        "instance_norm": _normalise("instance_norm", norm),
        "layer_norm": _normalise("layer_norm", shaped),
        "rms_norm": _normalise("rms_norm", shaped[:3]),
        "group_norm": _normalise("group_norm", ("input", "num_groups", "weight", "bias")),
        "softmax": _softmax("softmax"),
        "log_softmax": _softmax("log_softmax"),
        "hardtanh": _with_flag("hardtanh", 3),
    }
    for name in ("relu", "leaky_relu", "silu", "mish", "hardswish", "hardsigmoid", "relu6", "elu"):
        rules[name] = _with_flag(name, 2 if name in ("leaky_relu", "elu") else 1)
        rules[f"{name}_"] = _activation(name, in_place=True)
    for name in ("sigmoid", "tanh", "gelu", "softplus", "exp", "sqrt", "rsqrt", "abs", "clamp"):
        rules[name] = _activation(name)
        rules[f"{name}_"] = _activation(name, in_place=True)
    rules["clamp"], rules["clamp_"] = _clamp(False), _clamp(True)
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "square", "neg"):
        rules[name] = _elementwise(name)
        rules[f"{name}_"] = _elementwise(name, in_place=True)
    rules["maximum"] = _maximum
    for name, op in (("__radd__", "add"), ("__rsub__", "sub"), ("__rmul__", "mul")):
        rules[name] = _elementwise(op)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        rules[name] = _elementwise(name, compares=True)
    return rules


RULES: dict[str, Rule] = _rules()

_ATEN_NORM = ("input", "weight", "bias", "running_mean", "running_var", "training")
#: Where ATen orders the arguments in another way than ``torch.nn.functional``.
ATEN_RULES: dict[str, Rule] = {
    "batch_norm": _normalise("batch_norm", _ATEN_NORM),
    "instance_norm": _normalise("instance_norm", _ATEN_NORM),
    "elu": _activation("elu"),
    "hardtanh_": _activation("hardtanh", in_place=True),
}
