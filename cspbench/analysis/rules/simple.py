"""Questions about a tensor, and calls that change nothing here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.errors import DataDependentError
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value, Weight, role_of
from cspbench.analysis.tracer import META, Tracer, channels_last
from cspbench.core.text import first_line

Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = dict[str, Any]
#: ``rule(tracer, function, args, kwargs)`` returns what the function would.
Rule: TypeAlias = Callable[[Tracer, Any, Arguments, Keywords], Any]


def bind(names: tuple[str, ...], args: Arguments, kwargs: Keywords) -> dict[str, Any]:
    """Arguments by name."""
    bound = dict(zip(names, args, strict=False))
    if kwargs:
        bound.update(kwargs)
    return bound


def is_activation(tracer: Tracer, tensor: object) -> bool:
    """True for a floating-point tensor that is neither a weight nor made of weights alone."""
    return (
        isinstance(tensor, torch.Tensor)
        and tracer.weight(tensor) is None
        and tensor.dtype.is_floating_point
        and tracer.value(tensor).weight is None
    )


def without_values(tracer: Tracer, tensors: Sequence[torch.Tensor]) -> bool:
    """True if no operand is a real constant, whose values a later index may need."""
    return all(t.device.type == "meta" or tracer.weight(t) is not None for t in tensors)


def made_of(
    tracer: Tracer, weights: Sequence[Weight], shape: Shape, dtype: torch.dtype
) -> tuple[torch.Tensor, Value]:
    """What an operator makes of weights alone: no activation, but derived of them."""
    out, result = tracer.empty(shape, dtype, dtype.itemsize)
    result.weight = result.storage.weight = Weight(shape, result.itemsize, role_of(weights))
    return out, result


def copied_bytes(x: torch.Tensor, formats: bool = True) -> int:
    """Bytes of the copy that torch makes, for the time of a call, of what lies in no plain order.

    ``formats``: the kernel takes images with their channels last, too.
    """
    order = channels_last(x) if formats else None
    lies = x.is_contiguous() if order is None else x.is_contiguous(memory_format=order)
    return 0 if lies else x.nbytes


def reshaped(x: torch.Tensor, sides: Sequence[Any]) -> torch.Tensor:
    """What ``x.reshape(*sides)`` puts out.

    Where that is a copy, torch's own meta kernel takes 100 times as long.
    """
    if x.is_contiguous():
        return x.view(*sides)
    copy = torch.empty(x.shape, dtype=x.dtype, device=META).view(*sides)
    return x.view(copy.shape) if shapes.is_view(x.shape, x.stride(), copy.shape) else copy


def rejected(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords, why: str) -> NoReturn:
    """Refuse what torch refuses, with its own reason where its meta kernel gives one.

    Raises:
        ValueError: always.
    """
    try:
        fallback(tracer, func, args, kwargs)
    except Exception as error:  # whatever torch raises
        raise ValueError(f"{why}; torch: {first_line(error)}") from error
    raise ValueError(why)


def ask(_: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Shape, type and layout: known, free, not operators."""
    return func(*args, **kwargs)


def _same(_: Tracer, __: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A move between devices changes nothing here."""
    return args[0] if args else kwargs["input"]


def _dropout(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("input", "p", "training", "inplace"), args, kwargs)
    if bound.get("training", True):
        return fallback(tracer, func, args, kwargs)
    return bound["input"]


def _assert(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``torch._assert`` of a plain condition; one that is a tensor needs values."""
    condition = args[0] if args else kwargs.get("condition")
    if isinstance(condition, torch.Tensor):
        return fallback(tracer, func, args, kwargs)
    return func(*args, **kwargs)


def _type(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``tensor.type()`` asks, ``tensor.type(dtype)`` converts."""
    if len(args) > 1 or kwargs:
        return fallback(tracer, func, args, kwargs)
    return func(*args)


def _value_of(what: str) -> Rule:
    def rule(_: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, torch.Tensor) and x.device.type == "meta":
            raise DataDependentError(f"{what} needs the values of a tensor")
        return func(*args, **kwargs)

    return rule


RULES: dict[str, Rule] = {
    **dict.fromkeys(("cpu", "cuda", "detach"), _same),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _dropout),
    **dict.fromkeys(
        (
            *("size", "dim", "numel", "stride", "is_contiguous", "element_size", "get_device"),
            *("is_floating_point", "is_complex", "nelement", "ndimension", "storage_offset"),
            *("is_tensor", "__len__", "__hash__", "__repr__", "__format__"),
        ),
        ask,
    ),
    **{name: _value_of(f"{name}()") for name in ("item", "tolist", "numpy", "nonzero")},
    **{name: _value_of(f"{name}()") for name in ("unique", "bincount")},
    **{name: _value_of(f"{name}()") for name in ("equal", "allclose", "unique_consecutive")},
    "type": _type,
    "_assert": _assert,
    "__bool__": _value_of("a condition (bool)"),
    "__int__": _value_of("int()"),
    "__float__": _value_of("float()"),
    "__index__": _value_of("an index or range"),
    "__array__": _value_of("a NumPy array"),
}

#: Attributes of a tensor that are known without its values.
PROPERTIES: tuple[str, ...] = (
    *("shape", "dtype", "device", "ndim", "is_cuda", "is_meta", "requires_grad", "layout"),
    *("is_sparse", "is_quantized", "grad_fn", "is_nested", "itemsize", "nbytes", "is_cpu"),
)
