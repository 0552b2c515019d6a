"""The layer of an ATen call: which operand is the input, the filter, the bias, a factor.

Also what torch's kernels refuse and its meta kernels let pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.recorder import Value, Weight
from cspbench.analysis.tracer import Tracer

#: Products whose first two operands are the factors, and those that add the first one.
_ADDING = ("addmm", "baddbmm", "addmv", "addbmm")
_PRODUCTS = ("mm", "bmm", "mv", "dot", "vdot", "matmul", *_ADDING)
#: Products that keep their name beside a weight: other tools count them apart from linear layers.
_BATCHED = ("bmm", "baddbmm", "addbmm")
_CONVOLUTIONS = ("convolution", "_convolution")


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


def check_types(name: str, operands: Sequence[torch.Tensor]) -> None:
    """Operands of a product must be of one type; meta kernels do not check that.

    Raises:
        RuntimeError: they are not.
    """
    if name not in _PRODUCTS and name not in _CONVOLUTIONS:
        return
    types = {operand.dtype for operand in operands}
    if len(types) > 1:
        listed = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in types))
        raise RuntimeError(f"{name}: operands must have the same dtype, but got {listed}")


def check_writable(tensor: torch.Tensor) -> None:
    """A tensor that is written in place must not show one element twice; meta kernels let it pass.

    Raises:
        RuntimeError: it does.
    """
    strides = tensor.stride() if tensor.layout is torch.strided else ()
    if 0 in strides and any(
        stride == 0 and side > 1 for side, stride in zip(tensor.shape, strides, strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation"
        )


def record_call(
    tracer: Tracer,
    name: str,
    kind: str,
    args: tuple[Any, ...],
    values: list[Value],
    weights: list[Weight],
    outputs: list[Value],
    in_place: bool,
) -> None:
    """Record a call by its ATen operands."""
    recorder = tracer.recorder
    if name == "_trilinear":
        _record_bilinear(tracer, args, outputs)
    elif name == "conv_tbc":
        _record_conv_tbc(tracer, args, outputs)
    elif name in _CONVOLUTIONS:
        _record_convolution(tracer, name, args, outputs)
    elif kind == "conv":
        # A convolution of another library has other arguments: its filter says what it costs.
        main = weights[0] if weights else None
        shape = main.shape if main else values[1].shape
        recorder.record(
            name,
            values,
            outputs,
            main,
            kind=kind,
            bias=weights[1] if len(weights) > 1 else None,
            weight_shape=shape,
            kernel=shape[2:],
        )
    elif kind == "attention":
        # Query, keys and values are inputs, whatever they are made of (learned queries).
        operands = [tracer.value(operand) for operand in args[:3]]
        masks = [value for value in values if value not in operands]
        used = {value.weight for value in operands}
        others = [weight for weight in weights if weight not in used]
        recorder.record(name, operands + masks, outputs, None, others, kind=kind)
    elif kind in ("linear", "matmul") and weights and values:
        _record_product(tracer, name, kind, args, values, weights, outputs)
    else:
        layer = recorder.record(
            name,
            values,
            outputs,
            None,
            weights,
            kind=kind,
            copied=kind == "copy",
            in_place=in_place,
            temporary_bytes=shapes.checked_rows(args[0].shape) if name == "_safe_softmax" else 0,
        )
        if kind == "index" and layer.weight_elements > layer.output_elements:
            # A look-up reads the rows that it returns, not the table.
            layer.weight_elements, layer.weight_bytes = layer.output_elements, layer.output_bytes


def _factors(
    tracer: Tracer, tensors: Sequence[Any], filter_at: int
) -> tuple[list[Value], Weight | None, Weight | None]:
    """Activations, filter and bias of a call whose operands are ``input, filter, bias``.

    The input is an activation even where it is a constant; a filter or bias may be one.
    """
    values, weights = [], []
    for place, tensor in enumerate(tensors):
        weight = tracer.filter(tensor) if _is_tensor(tensor) and place >= filter_at else None
        weights.append(weight)
        if weight is None and _is_tensor(tensor):
            values.append(tracer.value(tensor))
    return values, weights[filter_at], weights[-1]


def _record_convolution(
    tracer: Tracer, name: str, args: tuple[Any, ...], outputs: list[Value]
) -> None:
    values, main, bias = _factors(tracer, args[:3], 1)
    shape = tuple(args[1].shape)
    tracer.recorder.record(
        name,
        values,
        outputs,
        main,
        kind="conv",
        bias=bias,
        weight_shape=shape,
        kernel=shape[2:],
        stride=tuple(args[3]),
        dilation=tuple(args[5]),
        transposed=bool(args[6]),
        groups=int(args[8]),
    )


def _record_conv_tbc(tracer: Tracer, args: tuple[Any, ...], outputs: list[Value]) -> None:
    """``conv_tbc``: a filter of (width, in, out) over (time, batch, channels)."""
    values, main, bias = _factors(tracer, args[:3], 1)
    width, channels, out = args[1].shape
    layer = tracer.recorder.record(
        "conv_tbc", values, outputs, main, kind="conv", bias=bias, kernel=(width,)
    )
    layer.weight_shape = (out, channels, width)


def _record_bilinear(tracer: Tracer, args: tuple[Any, ...], outputs: list[Value]) -> None:
    """``_trilinear(x1, weight, x2)``, which is how torch computes ``x1 W x2``."""
    first, weight, second = args[:3]
    values, main, _ = _factors(tracer, (first, second, weight), 2)
    layer = tracer.recorder.record("bilinear", values, outputs, main, kind="linear")
    layer.weight_shape = tuple(weight.shape)


def _record_product(
    tracer: Tracer,
    name: str,
    kind: str,
    args: tuple[Any, ...],
    values: list[Value],
    weights: list[Weight],
    outputs: list[Value],
) -> None:
    """Record a product of activations and weights: linear if a weight is one of its factors."""
    # addmm and baddbmm add their first operand to the product of the other two.
    factors = [arg for arg in (args[1:3] if name in _ADDING else args[:2]) if _is_tensor(arg)]
    matrices = [factor for factor in factors if tracer.filter(factor) in weights]
    if name in _PRODUCTS and not matrices:  # only what is added is a weight
        tracer.recorder.record(name, values, outputs, None, weights, kind=kind)
        return
    matrix = max(weights, key=lambda weight: len(weight.shape))
    if matrices:
        matrix = next(weight for weight in weights if weight is tracer.filter(matrices[-1]))
        active = [tracer.value(factor) for factor in factors if factor is not matrices[-1]]
        values = [*active, *(value for value in values if value not in active)]
    rest = [weight for weight in weights if weight is not matrix]
    op = name if name in _BATCHED else "linear"
    layer = tracer.recorder.record(
        op, values, outputs, matrix, kind="linear", bias=rest[0] if rest else None
    )
    if matrices:  # as this call sees it, which may be a view
        layer.weight_shape = tuple(matrices[-1].shape)
