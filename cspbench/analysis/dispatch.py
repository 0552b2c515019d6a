"""Second level of the tracer: real meta kernels under a dispatch mode.

Slower than the rules and complete: whatever a function is made of, its ATen operators are recorded,
and an unknown operator is recorded as unsupported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from cspbench.analysis.errors import DataDependentError, NoMetaKernelError
from cspbench.analysis.ops import MAC_KINDS, OPS, UNSUPPORTED, kind_of
from cspbench.analysis.recorder import Value, Weight
from cspbench.analysis.tracer import Tracer

#: Fused kernels that ATen chooses for attention, by prefix.
_ATTENTION = ("_scaled_dot_product", "_efficient_attention", "_flash_attention")
#: Factories whose values no operator can need, so they take no memory.
_FACTORIES = frozenset({"zeros", "ones", "empty", "full", "rand", "randn"})
#: Products whose first two operands are the factors, and those that add the first one.
_ADDING = ("addmm", "baddbmm", "addmv")
_PRODUCTS = ("mm", "bmm", "mv", "dot", "vdot", "matmul", *_ADDING)
_NEEDS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def fallback(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``func`` on meta tensors and record what it is made of."""
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if any(t.device.type == "meta" or tracer.weight(t) is not None for t in tensors):
        args, kwargs = tree_map(
            lambda leaf: tracer.on_meta(leaf) if isinstance(leaf, torch.Tensor) else leaf,
            (args, kwargs),
        )
    elif not tensors and getattr(func, "__name__", "") in _FACTORIES:
        kwargs = {**kwargs, "device": "meta"}
    with _Recording(tracer):
        return func(*args, **kwargs)


class _Recording(TorchDispatchMode):
    """Records every ATen operator that runs while it is active."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_flatten((args, kwargs))[0] if _is_tensor(leaf)]
        if any(tag in func.tags for tag in _NEEDS_VALUES) and any(t.is_meta for t in operands):
            raise DataDependentError(f"{aten_name(func)} needs the values of a tensor")
        try:
            result = func(*args, **kwargs)
        except NotImplementedError as error:
            raise NoMetaKernelError(
                f"operator {func._schema.name} cannot tell its output's shape without running: "
                "register a fake kernel for it (torch.library.register_fake)"
            ) from error
        _record(self._tracer, func, args, operands, result)
        return result


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


def aten_name(func: Any) -> str:
    """``aten::relu_.default`` -> ``relu``; the namespace of another library stays in front."""
    namespace, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    if name.startswith(_ATTENTION) and not name.endswith("backward"):
        return "scaled_dot_product_attention"
    return name if namespace in ("aten", "prims") or name in OPS else f"{namespace}.{name}"


def _record(
    tracer: Tracer, func: Any, args: tuple[Any, ...], operands: list[torch.Tensor], result: Any
) -> None:
    """Record one ATen call that has just run."""
    name = aten_name(func)
    results = [leaf for leaf in tree_flatten(result)[0] if _is_tensor(leaf)]
    if not results:
        return
    values, weights = tracer.split(operands)
    mutates = func._schema.is_mutable
    # Whatever is made without activations is no activation.
    role = "derived" if any(w.role in ("param", "derived") for w in weights) else "constant"
    if not mutates and any(item.alias_info is not None for item in func._schema.returns):
        owner = weights[0] if weights and not values else None
        outputs = [tracer.adopt(part, owner) for part in results]
        if values:
            tracer.recorder.record(name, values, outputs, kind="view")
        return
    in_place = mutates and any(results[0] is operand for operand in operands)
    if in_place:
        outputs = [tracer.rewritten(part, bool(values)) for part in results]
    else:
        outputs = [
            tracer.adopt(
                part,
                None if values else Weight(tuple(part.shape), part.element_size(), role),
            )
            for part in results
        ]
    kind = kind_of(name)
    if kind in MAC_KINDS and not values:
        # A product of weights or constants alone (an initial state): one of them must be the input.
        inputs = [t for t in operands if _is_constant(tracer, t)] or operands[:1]
        values = [tracer.value(t) for t in inputs]
        weights = [weight for weight in weights if all(weight is not v.weight for v in values)]
    if kind == UNSUPPORTED and torch.Tag.pointwise in func.tags:
        kind = "elementwise"
    record_call(tracer, name, kind, args, values, weights, outputs, in_place)


def _is_constant(tracer: Tracer, tensor: torch.Tensor) -> bool:
    weight = tracer.filter(tensor)
    return weight is not None and weight.role == "constant"


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
    if kind == "conv":
        main = weights[0] if weights else None
        filter_shape = main.shape if main else values[1].shape
        # A convolution of another library has other arguments: its filter says what it costs.
        ours = name in ("convolution", "_convolution")
        recorder.record(
            name,
            values,
            outputs,
            main,
            kind=kind,
            bias=weights[1] if len(weights) > 1 else None,
            weight_shape=filter_shape,
            kernel=filter_shape[2:],
            stride=tuple(args[3]) if ours else (),
            dilation=tuple(args[5]) if ours else (),
            transposed=bool(args[6]) if ours else False,
            groups=int(args[8]) if ours else 1,
        )
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
        )
        if kind == "index" and layer.weight_elements > layer.output_elements:
            # A look-up reads the rows that it returns, not the table.
            layer.weight_elements, layer.weight_bytes = layer.output_elements, layer.output_bytes


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
    # A batched product keeps its name: other tools count it apart from linear layers.
    op = name if name in ("bmm", "baddbmm") else "linear"
    layer = tracer.recorder.record(
        op, values, outputs, matrix, kind="linear", bias=rest[0] if rest else None
    )
    if matrices:  # as this call sees it, which may be a view
        layer.weight_shape = tuple(matrices[-1].shape)
