"""Second level of the tracer: real meta kernels under a dispatch mode.

Slower than the rules and complete: whatever a function is made of, its ATen operators are recorded,
and an operator that nobody knows is recorded as unsupported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from cspbench.analysis.ops import OPS, kind_of
from cspbench.analysis.recorder import Value, Weight

if TYPE_CHECKING:
    from cspbench.analysis.trace import Tracer

#: Fused kernels that ATen chooses for attention, by prefix.
_ATTENTION = ("_scaled_dot_product", "_efficient_attention", "_flash_attention")


def fallback(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``func`` on meta tensors and record what it is made of."""
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if any(t.device.type == "meta" or tracer.weight(t) is not None for t in tensors):
        args, kwargs = tree_map(
            lambda leaf: tracer.on_meta(leaf) if isinstance(leaf, torch.Tensor) else leaf,
            (args, kwargs),
        )
    elif not tensors and _makes_values(func):
        kwargs = {**kwargs, "device": "meta"}
    with _Recording(tracer):
        return func(*args, **kwargs)


def _makes_values(func: Any) -> bool:
    """True for factories whose values nobody can need: their memory is not taken."""
    return getattr(func, "__name__", "") in ("zeros", "ones", "empty", "full", "rand", "randn")


class _Recording(TorchDispatchMode):
    """Records every ATen operator that runs while it is active."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        record_aten(self._tracer, func, args, kwargs, result)
        return result


def aten_name(func: Any) -> str:
    """``aten::relu_.default`` -> ``relu``; a namespace other than aten stays in front."""
    namespace, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    if name.startswith(_ATTENTION) and not name.endswith("backward"):
        return "scaled_dot_product_attention"
    return name if namespace in ("aten", "prims") or name in OPS else f"{namespace}.{name}"


def record_aten(
    tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    """Record one ATen call on meta tensors."""
    name = aten_name(func)
    operands = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    results = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)]
    if not results or name in ("_assert_tensor_metadata",):
        return
    values, weights = tracer.split(operands)
    mutates = func._schema.is_mutable
    view = not mutates and any(item.alias_info is not None for item in func._schema.returns)
    if view:
        # A view of a weight is that weight, whatever its shape.
        owner = weights[0] if weights and not values else None
        outputs = [tracer.adopt(part, owner) for part in results]
        if owner is None:
            tracer.recorder.record(name, values, outputs, kind="view")
        return
    in_place = mutates and bool(operands) and results[0] is operands[0]
    outputs = [tracer.rewritten(part) if in_place else tracer.adopt(part) for part in results]
    _record(tracer, func, name, args, operands, values, weights, outputs, in_place)


def _record(
    tracer: Tracer,
    func: Any,
    name: str,
    args: tuple[Any, ...],
    operands: list[torch.Tensor],
    values: list[Value],
    weights: list[Weight],
    outputs: list[Value],
    in_place: bool,
) -> None:
    kind = kind_of(name)
    recorder = tracer.recorder
    if kind == "conv" and len(args) > 6 and weights:
        main, *rest = weights
        recorder.record(
            name,
            values,
            outputs,
            main,
            rest[1:],
            bias=rest[0] if rest else None,
            kernel=main.shape[2:],
            stride=tuple(args[3]),
            dilation=tuple(args[5]),
            transposed=bool(args[6]),
            groups=int(args[8]) if len(args) > 8 else 1,
        )
    elif kind in ("linear", "matmul") and weights and values:
        matrix = next((w for w in weights if len(w.shape) >= 2), weights[0])
        rest = [w for w in weights if w is not matrix]
        recorder.record("linear", values, outputs, matrix, rest[1:], bias=rest[0] if rest else None)
    elif kind == "unsupported" and torch.Tag.pointwise in func.tags:
        recorder.record(name, values, outputs, None, weights, kind="elementwise", in_place=in_place)
    else:
        recorder.record(
            name, values, outputs, None, weights, copied=kind == "copy", in_place=in_place
        )
