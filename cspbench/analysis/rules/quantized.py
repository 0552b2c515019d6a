"""Rules for quantised modules: their operators have no meta kernels, their weights are packed.

A quantised activation is followed as a tensor of the type that it is stored in. Weights are neither
parameters nor buffers of the module, so ``params`` does not count them (PyTorch does not either).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from cspbench.analysis import shapes
from cspbench.analysis.dispatch import fallback
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Weight
from cspbench.analysis.recurrent import Cell, gru_cell, lstm_cell
from cspbench.analysis.rules import recurrent
from cspbench.analysis.rules.simple import Arguments, Keywords, Rule, bind
from cspbench.analysis.tracer import STORED_AS, Tracer

_PACKED = torch.ops.quantized


def _quantize(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``quantize_per_tensor`` and kin: a copy into a narrower type."""
    x = args[0] if args else kwargs.get("input")
    dtype = kwargs.get("dtype") or next((a for a in args if isinstance(a, torch.dtype)), None)
    if not isinstance(x, torch.Tensor) or x.device.type != "meta" or dtype not in STORED_AS:
        return fallback(tracer, func, args, kwargs)
    return _elementwise(tracer, "quantize", "copy", [x], STORED_AS[dtype])


def _dequantize(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    x = args[0] if args else kwargs.get("tensor")
    if not isinstance(x, torch.Tensor) or x.device.type != "meta":
        return fallback(tracer, func, args, kwargs)
    return _elementwise(tracer, "dequantize", "copy", [x], torch.float32)


def _elementwise(
    tracer: Tracer, op: str, kind: str, tensors: Sequence[torch.Tensor], dtype: torch.dtype
) -> torch.Tensor:
    values, weights = tracer.split(tensors)
    shape = shapes.broadcast([tuple(tensor.shape) for tensor in tensors])
    out, result = tracer.empty(shape, dtype, dtype.itemsize)
    tracer.recorder.record(op, values, (result,), None, weights, kind=kind, copied=kind == "copy")
    return out


def _as_stored(op: str, kind: str) -> Rule:
    """An operator whose result has the shape of its operands, quantised as they are."""

    def rule(tracer: Tracer, _: Any, args: Arguments, __: Keywords) -> Any:
        operands = 2 if kind == "elementwise" else 1
        tensors = [arg for arg in args[:operands] if isinstance(arg, torch.Tensor)]
        return _elementwise(tracer, op, kind, tensors, tensors[0].dtype)

    return rule


def _cat(tracer: Tracer, _: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = bind(("tensors", "dim"), args, kwargs)
    values = [tracer.value(tensor) for tensor in bound["tensors"]]
    shape = shapes.concatenate([value.shape for value in values], bound["dim"])
    out, result = tracer.empty(shape, bound["tensors"][0].dtype, values[0].itemsize)
    tracer.recorder.record("cat", values, (result,), copied=True)
    return out


def _matmul(tracer: Tracer, _: Any, args: Arguments, __: Keywords) -> Any:
    left, right = (tracer.value(arg) for arg in args[:2])
    out, result = tracer.empty(shapes.matmul(left.shape, right.shape), args[0].dtype, left.itemsize)
    tracer.recorder.record("matmul", (left, right), (result,))
    return out


def _unpacked(tensor: torch.Tensor | None) -> Weight | None:
    if tensor is None:
        return None
    return Weight(tuple(tensor.shape), tensor.element_size(), "buffer")


def _linear(dynamic: bool, unpack: str) -> Rule:
    """A linear layer; a dynamic one takes and gives floating numbers."""

    def rule(tracer: Tracer, _: Any, args: Arguments, __: Keywords) -> Any:
        x = args[0]
        weight, bias = map(_unpacked, getattr(_PACKED, unpack)(args[1]))
        value = tracer.value(x)
        if weight is None or value.shape[-1:] != weight.shape[1:]:
            raise ValueError(f"a quantised linear layer was given {value.shape}")
        _check(x, dynamic)
        out, result = tracer.empty((*value.shape[:-1], weight.shape[0]), x.dtype, value.itemsize)
        tracer.recorder.record("linear", (value,), (result,), weight, bias=bias)
        return out

    return rule


def _check(x: torch.Tensor, dynamic: bool) -> None:
    """Dynamic layers take floating numbers, static ones quantised ones.

    Raises:
        RuntimeError: it is the other way round.
    """
    if x.dtype.is_floating_point is not dynamic:
        raise RuntimeError(
            f"a {'dynamically' if dynamic else 'statically'} quantised layer was given {x.dtype}"
        )


def _conv(dims: int, transposed: bool, dynamic: bool) -> Rule:
    name = "conv_transpose" if transposed else "conv"
    # One dimension is packed as two, the first of which is 1.
    asked = f"{name}{max(dims, 2)}d"

    def rule(tracer: Tracer, _: Any, args: Arguments, __: Keywords) -> Any:
        x, packed = args[:2]
        weight, bias = map(_unpacked, getattr(_PACKED, f"{name}{dims}d_unpack")(packed))
        value = tracer.value(x)
        if weight is None or len(value.shape) != dims + 2:
            raise ValueError(f"a quantised convolution was given {value.shape}")
        _check(x, dynamic)

        def sides(what: str) -> Shape:
            return tuple(getattr(_PACKED, f"{asked}_{what}")(packed)[-dims:])

        groups = int(getattr(_PACKED, f"{asked}_groups")(packed))
        stride, padding, dilation = sides("stride"), sides("padding"), sides("dilation")
        kernel = weight.shape[2:]
        arguments = (value.shape[2:], kernel, stride, padding, dilation)
        if transposed:
            size = tuple(map(shapes.conv_transpose_size, *arguments, sides("output_padding")))
            taken, channels = weight.shape[0], weight.shape[1] * groups
        else:
            size = tuple(map(shapes.conv_size, *arguments))
            taken, channels = weight.shape[1] * groups, weight.shape[0]
        if value.shape[1] != taken or min(size) < 1:
            raise ValueError(f"a quantised convolution of {taken} channels: {value.shape}")
        out, result = tracer.empty((value.shape[0], channels, *size), x.dtype, value.itemsize)
        tracer.recorder.record(
            f"{name}{dims}d",
            (value,),
            (result,),
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


def _recurrent(gates: int, cell: Cell) -> Rule:
    """A dynamically quantised recurrent layer: its sizes are those of its input and state."""

    def rule(tracer: Tracer, _: Any, args: Arguments, __: Keywords) -> Any:
        call = recurrent.call_of(args)
        width = call.hx[0].shape[-1]
        weights: list[Weight] = []
        for layer in range(call.layers):
            taken = width * call.directions if layer else call.x.shape[-1]
            for _ in range(call.directions):
                weights += [Weight((gates * width, side), 1, "buffer") for side in (taken, width)]
                weights += [Weight((gates * width,), 4, "buffer") for _ in range(2)]
        return recurrent.run(tracer, call, weights, gates, cell)

    return rule


_KINDS = {
    "elementwise": "add add_relu mul mul_relu add_scalar mul_scalar add_scalar_relu "
    "mul_scalar_relu",
    "activation": "relu6 hardswish leaky_relu sigmoid elu celu threshold prelu clamp",
    "softmax": "softmax",
    "norm": "batch_norm batch_norm1d batch_norm2d batch_norm3d batch_norm_relu batch_norm1d_relu "
    "batch_norm2d_relu batch_norm3d_relu layer_norm instance_norm group_norm",
}


def _packed_rules() -> Iterator[tuple[str, Rule]]:
    """Rules of the operators of ``torch.ops.quantized`` by name."""
    for kind, names in _KINDS.items():
        for name in names.split():
            yield name, _as_stored(name.removesuffix("_relu"), kind)
    yield "cat", _cat
    yield "matmul", _matmul
    for tail in ("", "_relu"):
        yield f"linear{tail}", _linear(False, "linear_unpack")
        yield f"linear{tail}_dynamic", _linear(True, "linear_unpack")
        yield f"linear{tail}_dynamic_fp16", _linear(True, "linear_unpack_fp16")
        for dims in (1, 2, 3):
            yield f"conv{dims}d{tail}", _conv(dims, False, False)
    yield "linear_leaky_relu", _linear(False, "linear_unpack")
    yield "linear_tanh", _linear(False, "linear_unpack")
    for dims in (1, 2, 3):
        yield f"conv{dims}d_dynamic", _conv(dims, False, True)
        yield f"conv_transpose{dims}d", _conv(dims, True, False)
        yield f"conv_transpose{dims}d_dynamic", _conv(dims, True, True)


def by_function() -> dict[Any, Rule]:
    """Rules by the function that calls them; a build of torch may lack some."""
    table: dict[Any, Rule] = {}
    for name, rule in _packed_rules():
        packet = getattr(_PACKED, name, None)
        if packet is not None:
            table[packet] = rule
    for name in ("quantize_per_tensor", "quantize_per_channel", "quantize_per_tensor_dynamic"):
        table[getattr(torch, name)] = _quantize
    table[torch.dequantize] = table[torch.Tensor.dequantize] = _dequantize
    table[torch.quantized_lstm] = _recurrent(4, lstm_cell)
    table[torch.quantized_gru] = _recurrent(3, gru_cell)
    return table
