"""Second level of the tracer: real meta kernels under a dispatch mode.

Slower than the rules and complete: whatever a function is made of, its ATen operators are recorded,
and an unknown operator is recorded as unsupported.
"""

from __future__ import annotations

import functools
import gc
import sys
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from cspbench.analysis import autocast
from cspbench.analysis.calls import check_types, check_writable, record_call
from cspbench.analysis.errors import DataDependentError, NoMetaKernelError
from cspbench.analysis.ops import MAC_KINDS, OPS, UNSUPPORTED, kind_of
from cspbench.analysis.recorder import Weight, role_of
from cspbench.analysis.tracer import Tracer
from cspbench.artifacts.modes import WatchingMode

#: Fused kernels that ATen chooses for attention, by prefix.
_ATTENTION = ("_scaled_dot_product", "_efficient_attention", "_flash_attention")
#: Factories whose values no operator can need: their memory is not allocated.
_FACTORIES = frozenset({"zeros", "ones", "empty", "full", "rand", "randn"})
_NEEDS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
#: Look-ups, whose result's shape depends on values only where an index is a mask.
_LOOKUPS = ("index", "_unsafe_index")


def fallback(tracer: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``func`` on meta tensors and record what it is made of."""
    tensors = tensors_of((args, kwargs))
    if any(t.device.type == "meta" or tracer.weight(t) is not None for t in tensors):
        if any(tracer.on_meta(t) is not t for t in tensors):
            args, kwargs = tree_map(
                lambda leaf: tracer.on_meta(leaf) if _is_tensor(leaf) else leaf, (args, kwargs)
            )
    elif not tensors and getattr(func, "__name__", "") in _FACTORIES:
        kwargs = {**kwargs, "device": "meta"}
    loaded = len(sys.modules)
    with _Recording(tracer):
        result = func(*args, **kwargs)
    if len(sys.modules) != loaded:  # what torch imports at its first call holds the operands
        gc.collect()
    if not tensors or getattr(func, "__name__", "") == "new_tensor":
        _adopt_constants(tracer, result)
    return result


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """The tensors in nested lists, tuples and dictionaries, which is all that calls hold here.

    ``tree_flatten`` knows every type that was registered, and takes a third of a call for that.
    """
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (list, tuple)):
        return []
    found: list[torch.Tensor] = []
    for leaf in tree:
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif isinstance(leaf, (list, tuple, dict)):
            found += tensors_of(leaf)
    return found


def _adopt_constants(tracer: Tracer, result: Any) -> None:
    """Follow what was made of plain numbers, which may come without a call that a mode sees."""
    for leaf in tensors_of(result):
        if leaf.is_meta and getattr(leaf, "_cspbench_value", None) is None:
            tracer.adopt(leaf, Weight(tuple(leaf.shape), leaf.element_size(), "constant"))


class _Recording(WatchingMode):
    """Records every ATen operator that runs while it is active."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self._autocast = autocast.in_force()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracer = self._tracer
        facts = _facts(func)
        name = facts.name
        if self._autocast is not None:
            dtype = self._autocast.dtype_of(name)
            if dtype is not None:
                args, kwargs = tree_map(lambda leaf: _cast(tracer, leaf, dtype), (args, kwargs))
        operands = tensors_of((args, kwargs))
        if name == "_to_copy" and _leaves_for_meta(operands[0], kwargs):
            return tracer.on_meta(operands[0])  # keeps the values of a constant at hand
        if facts.needs_values and any(t.is_meta for t in operands):
            if name in _LOOKUPS:
                args = (args[0], _without_masks(tracer, args[0], args[1]), *args[2:])
            else:
                return _on_known_values(tracer, func, name, args, kwargs, operands)
        try:
            result = func(*args, **kwargs)
        except NotImplementedError as error:
            raise NoMetaKernelError(
                f"operator {func._schema.name} cannot tell its output's shape without running: "
                "register a fake kernel for it (torch.library.register_fake)"
            ) from error
        _record(tracer, facts, args, operands, result)
        return result


def _leaves_for_meta(tensor: torch.Tensor, kwargs: dict[str, Any]) -> bool:
    """True for a real constant that is only moved to where the activations are."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    there = device is not None and torch.device(device).type == "meta"
    return there and not tensor.is_meta and dtype in (None, tensor.dtype)


def _cast(tracer: Tracer, leaf: Any, dtype: torch.dtype) -> Any:
    """A floating operand as autocast gives it to a kernel; a parameter is cast once."""
    if (
        not _is_tensor(leaf)
        or not leaf.dtype.is_floating_point
        or leaf.dtype
        in (
            dtype,
            torch.float64,
        )
    ):
        return leaf
    known: torch.Tensor | None = tracer.casts.get((id(leaf), dtype))
    if known is not None:
        return known
    values, weights = tracer.split([leaf])
    out: torch.Tensor = leaf.to(dtype)
    constant = None if values else Weight(tuple(out.shape), out.element_size(), role_of(weights))
    tracer.recorder.record("_to_copy", values, (tracer.adopt(out, constant),), others=weights)
    if tracer.weight(leaf) is not None:
        tracer.casts[id(leaf), dtype] = out
    return out


def _without_masks(tracer: Tracer, tensor: torch.Tensor, indices: Any) -> list[Any]:
    """Indices with each mask whose values are known as the integers that it stands for.

    Raises:
        DataDependentError: the values of a mask are not known.
    """
    result: list[Any] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            result.append(index)
            continue
        mask = tracer.real(index)
        if mask is None:
            raise DataDependentError("indexing by a boolean mask needs the values of a tensor")
        sides = tuple(tensor.shape[len(result) : len(result) + mask.dim()])
        if sides != tuple(mask.shape):
            raise IndexError(f"a mask of {tuple(mask.shape)} does not fit sides of {sides}")
        result.extend(tracer.on_meta(places) for places in mask.nonzero(as_tuple=True))
    return result


def _on_known_values(
    tracer: Tracer,
    func: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    operands: list[torch.Tensor],
) -> Any:
    """An operator whose result depends on values, of constants alone.

    Raises:
        DataDependentError: it asks for the values of an activation.
    """
    if any(tracer.real(operand) is None for operand in operands):
        raise DataDependentError(f"{name} needs the values of a tensor")
    args, kwargs = tree_map(
        lambda leaf: tracer.real(leaf) if _is_tensor(leaf) else leaf, (args, kwargs)
    )
    return tree_map(
        lambda leaf: tracer.on_meta(leaf) if _is_tensor(leaf) else leaf, func(*args, **kwargs)
    )


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


class _Facts(NamedTuple):
    """What an operator's schema says, which torch takes long to tell."""

    #: Without namespace, overload and the ``_`` of those that write in place.
    base: str
    #: With its namespace, if that is another library's.
    elsewhere: str | None
    pointwise: bool
    needs_values: bool
    #: It writes to an operand.
    mutates: bool
    #: It puts out views of an operand, and writes nothing.
    views: bool
    #: It gives its operand another shape.
    reshapes: bool

    @property
    def name(self) -> str:
        """As the table of operators has it, to which more can be added."""
        return self.base if self.elsewhere is None or self.base in OPS else self.elsewhere


@functools.cache
def _facts(func: Any) -> _Facts:
    schema, tags = func._schema, func.tags
    namespace, _, name = schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    if name.startswith(_ATTENTION) and not name.endswith("backward"):
        name, namespace = "scaled_dot_product_attention", "aten"
    aliases = any(item.alias_info is not None for item in schema.returns)
    return _Facts(
        name,
        None if namespace in ("aten", "prims") else f"{namespace}.{name}",
        pointwise=torch.Tag.pointwise in tags,
        needs_values=any(tag in tags for tag in _NEEDS_VALUES),
        mutates=schema.is_mutable,
        views=aliases and not schema.is_mutable,
        reshapes=torch.Tag.inplace_view in tags,
    )


def _record(
    tracer: Tracer, facts: _Facts, args: tuple[Any, ...], operands: list[torch.Tensor], result: Any
) -> None:
    """Record one ATen call that has just run."""
    results = tensors_of(result)
    if not results:
        return
    values, weights = tracer.split(operands)
    name = facts.name
    if facts.views:
        owner = weights[0] if weights and not values else None
        outputs = [tracer.adopt_view(part, owner) for part in results]
        if values:
            tracer.recorder.record(name, values, outputs, kind="view")
        return
    if facts.reshapes:  # the tensor is the same, its shape another
        outputs = [tracer.adopt_view(part, None if values else weights[0]) for part in results]
        tracer.recorder.record(name, values, outputs, kind="view")
        return
    # Whatever is made without activations is no activation.
    role = role_of(weights)
    in_place = facts.mutates and any(results[0] is operand for operand in operands)
    if in_place:
        check_writable(results[0])
        outputs = [tracer.rewritten(part, bool(values)) for part in results]
    else:
        outputs = [
            tracer.adopt(
                part,
                None if values else Weight(tuple(part.shape), part.element_size(), role),
            )
            for part in results
        ]
    check_types(name, operands)
    kind = kind_of(name)
    if kind == UNSUPPORTED and facts.pointwise:
        kind = "elementwise"
    if kind in MAC_KINDS and not values:
        # A product of weights or constants alone (an initial state): one of them must be the input.
        inputs = [t for t in operands if _is_constant(tracer, t)] or operands[:1]
        values = [tracer.value(t) for t in inputs]
        weights = [weight for weight in weights if all(weight is not v.weight for v in values)]
    record_call(tracer, name, kind, args, values, weights, outputs, in_place)


def _is_constant(tracer: Tracer, tensor: torch.Tensor) -> bool:
    weight = tracer.filter(tensor)
    return weight is not None and weight.role == "constant"
