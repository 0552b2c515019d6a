"""What a pass over a module knows of its tensors: activations, weights, what is alive.

Liveness: every activation's storage is watched by a weak reference, so the bytes alive at any
moment are those that eager PyTorch would hold, for the same Python references keep them alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from cspbench.analysis import shapes
from cspbench.analysis.inventory import Inventory
from cspbench.analysis.layer import Shape
from cspbench.analysis.ops import UNSUPPORTED
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight

META = torch.device("meta")
#: What a tensor is called that no recorded call put out: its cost is unknown.
UNTRACED = "untraced"
#: Types by which quantised numbers are stored.
STORED_AS = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}


#: Dimensions from the innermost to the outermost, where channels come last.
_LAST_PLACES = {4: (1, 3, 2, 0), 5: (1, 4, 3, 2, 0)}
_LAST_ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}


class _StorageRef(weakref.ref):  # type: ignore[type-arg]
    """Weak reference to a storage that knows its size after the storage is gone."""

    __slots__ = ("key", "storage")
    key: int
    storage: Storage


class Tracer:
    """State of one pass: which tensors are activations, which are weights, what is alive."""

    def __init__(self, inventory: Inventory) -> None:
        self.recorder = Recorder()
        self.storages: dict[int, _StorageRef] = {}
        self.weights = inventory.weights
        #: What autocast made of a parameter, by its id and type.
        self.casts: dict[tuple[int, torch.dtype], torch.Tensor] = {}
        self.inventory = inventory
        self._twins: dict[int, torch.Tensor] = {}
        self._keep: list[Any] = []  # ids stay valid only while their objects live

    # -- tensors ------------------------------------------------------------------------------

    def value(self, tensor: torch.Tensor) -> Value:
        """The activation behind a tensor; a constant made in the forward pass becomes one."""
        known: Value | None = getattr(tensor, "_cspbench_value", None)
        if known is not None and known.owner is self.recorder:
            return known
        return self._newcomer(tensor, known)

    def _newcomer(self, tensor: torch.Tensor, earlier: Value | None) -> Value:
        """Follow a tensor that no recorded call put out.

        That is a constant, a view that was made out of sight, or what modules kept (``earlier`` is
        its value in an earlier pass). Whatever else it is, an operator was missed: a call of
        unknown cost tells that.
        """
        shape, itemsize = tuple(tensor.shape), tensor.element_size()
        if tensor.layout is not torch.strided:
            constant = None if tensor.device.type == "meta" else Weight(shape, itemsize, "constant")
            value = Value(
                self.recorder.new_id(), shape, itemsize, Storage(0), constant, self.recorder
            )
            tensor._cspbench_value = value  # type: ignore[attr-defined]
            return value
        if tensor.device.type != "meta":
            self._hold(tensor)  # it was there before the pass
            return self.adopt(tensor, Weight(shape, itemsize, "constant"))
        known = self.storages.get(tensor.untyped_storage()._cdata)
        if known is not None:
            return self.adopt_view(tensor, known.storage.weight)
        if earlier is not None or id(tensor) in self._kept:
            weight = earlier.weight if earlier is not None else None
            derived = weight is not None and weight.role in ("param", "derived")
            self._hold(tensor)
            return self.adopt(tensor, Weight(shape, itemsize, "derived" if derived else "constant"))
        value = self.adopt(tensor)
        self.recorder.record(UNTRACED, (), (value,), kind=UNSUPPORTED)
        return value

    @cached_property
    def _kept(self) -> set[int]:
        """Ids of the tensors in plain attributes of the modules, neither parameter nor buffer."""
        special = ("_parameters", "_buffers", "_modules")
        return {
            id(leaf)
            for module in self.inventory.root.modules()
            for name, attribute in module.__dict__.items()
            if name not in special
            for leaf in tree_leaves(attribute)
            if isinstance(leaf, torch.Tensor)
        }

    def weight(self, tensor: object) -> Weight | None:
        """The parameter or buffer that a tensor is, or None."""
        return self.weights.get(id(tensor))

    def filter(self, tensor: torch.Tensor) -> Weight | None:
        """The weight behind a filter: a parameter, what was derived of one, or a constant."""
        return self.weights.get(id(tensor)) or self.value(tensor).weight

    def empty(self, shape: Shape, dtype: torch.dtype, itemsize: int) -> tuple[torch.Tensor, Value]:
        """A new activation: a meta tensor whose storage is watched."""
        tensor = torch.empty(shape, dtype=dtype, device=META)
        # As `_attach`, but memory that was just taken cannot be known, and its size is.
        recorder, storage = self.recorder, Storage(0)
        value = Value(recorder.new_id(), shape, itemsize, storage, None, recorder)
        storage.nbytes = value.elements * itemsize
        self._follow(tensor.untyped_storage(), storage)
        tensor._cspbench_value = value  # type: ignore[attr-defined]
        return tensor, value

    def like(self, tensor: torch.Tensor, shape: Shape) -> tuple[torch.Tensor, Value]:
        """A new activation of another's type and, where it applies, memory format."""
        value = self.value(tensor)
        if tensor.is_contiguous():
            return self.empty(shape, tensor.dtype, value.itemsize)
        if shape == value.shape:
            out = _like(tensor)
            return out, self.adopt(out)
        order = channels_last(tensor)
        if order is None or len(shape) != tensor.dim():
            return self.empty(shape, tensor.dtype, value.itemsize)
        out = torch.empty(shape, dtype=tensor.dtype, device=META, memory_format=order)
        return out, self.adopt(out)

    def _attach(self, tensor: torch.Tensor, shape: Shape, itemsize: int) -> Value:
        recorder = self.recorder
        storage = self._watch(tensor)
        value = Value(recorder.new_id(), shape, itemsize, storage, None, recorder)
        tensor._cspbench_value = value  # type: ignore[attr-defined]
        return value

    def _watch(self, tensor: torch.Tensor) -> Storage:
        memory = tensor.untyped_storage()
        known = self.storages.get(memory._cdata)
        if known is not None:
            return known.storage
        storage = Storage(memory.nbytes())
        self._follow(memory, storage)
        return storage

    def _follow(self, memory: torch.UntypedStorage, storage: Storage) -> None:
        """Count memory as alive until it is freed."""
        reference = _StorageRef(memory, self._freed)
        reference.key = memory._cdata
        reference.storage = storage
        self.storages[reference.key] = reference
        self.recorder.live_bytes += storage.nbytes

    def _freed(self, reference: _StorageRef) -> None:
        if self.storages.get(reference.key) is reference:
            del self.storages[reference.key]
        self.recorder.live_bytes -= reference.storage.nbytes

    def adopt(self, tensor: torch.Tensor, weight: Weight | None = None) -> Value:
        """Start to follow a tensor that came from elsewhere (a meta kernel, a constant, a view)."""
        value = self._attach(tensor, tuple(tensor.shape), tensor.element_size())
        value.weight = weight
        if weight is not None:
            value.storage.weight = weight.base or weight
        return value

    def adopt_view(self, tensor: torch.Tensor, weight: Weight | None = None) -> Value:
        """Start to follow a view; ``weight`` is what it is a view of, if that is no activation."""
        if weight is not None:
            weight = weight.seen_as(tuple(tensor.shape), tensor.stride(), tensor.element_size())
        return self.adopt(tensor, weight)

    def rewritten(self, tensor: torch.Tensor, with_values: bool = True) -> Value:
        """The new value of a tensor that an in-place operator has overwritten.

        A constant into which activations were written is one no more (``with_values``).
        """
        old = self.value(tensor)
        weight = None if with_values else old.weight
        if with_values:
            old.storage.weight = None
        number = self.recorder.new_id()
        value = Value(number, old.shape, old.itemsize, old.storage, weight, self.recorder)
        tensor._cspbench_value = value  # type: ignore[attr-defined]
        return value

    def split(self, tensors: Sequence[object]) -> tuple[list[Value], list[Weight]]:
        """Activations and weights among the operands of a call."""
        values: list[Value] = []
        weights: list[Weight] = []
        for tensor in tensors:
            if not isinstance(tensor, torch.Tensor):
                continue
            weight = self.weights.get(id(tensor))
            if weight is None:
                value = self.value(tensor)
                weight = value.weight
                if weight is None:
                    values.append(value)
                    continue
            weights.append(weight)
        return values, weights

    def shares_memory(self, tensor: torch.Tensor) -> bool:
        """True if the tensor is a view of something already followed."""
        return tensor.untyped_storage()._cdata in self.storages

    def on_meta(self, tensor: torch.Tensor) -> torch.Tensor:
        """A meta twin of a weight or constant; of a weight the same one at each call."""
        known = self._twins.get(id(tensor))
        if known is not None:
            return known
        weight = self.weights.get(id(tensor))
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return self._wrapped_on_meta(tensor)
        if weight is None:
            return tensor if tensor.device.type == "meta" else self._constant_twin(tensor)
        twin = tensor if tensor.device.type == "meta" else _meta_like(tensor)
        if twin is not tensor:
            twin._cspbench_real = tensor  # type: ignore[attr-defined]
            if tensor.requires_grad and torch._C._functorch.maybe_current_level() is None:
                twin.requires_grad_()
        self.weights[id(twin)] = weight
        self._hold(twin)
        self.adopt(twin, weight)
        self._twins[id(tensor)] = self._twins[id(twin)] = twin
        self._keep.extend((tensor, twin))
        return twin

    def _wrapped_on_meta(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same for a tensor inside of a ``torch.func`` transform.

        Raises:
            ValueError: a transform of real tensors that is no ``vmap``.
        """
        functorch = torch._C._functorch
        if tensor.device.type == "meta":
            return tensor
        if not functorch.is_batchedtensor(tensor):
            raise ValueError("a torch.func transform of weights can be followed for vmap only")
        inner = self.on_meta(functorch.get_unwrapped(tensor))
        level, place = functorch.maybe_get_level(tensor), functorch.maybe_get_bdim(tensor)
        return functorch._add_batch_dim(inner, place, level)

    def _constant_twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A meta twin of a real constant, which it keeps alive."""
        reference = getattr(tensor, "_cspbench_twin", None)
        known: torch.Tensor | None = None if reference is None else reference()
        if known is None:
            known = _meta_like(tensor)
            known._cspbench_real = tensor  # type: ignore[attr-defined]
            tensor._cspbench_twin = weakref.ref(known)  # type: ignore[attr-defined]
        owner = getattr(known, "_cspbench_value", None)
        if owner is None or owner.owner is not self.recorder:
            self._hold(known)
            self.adopt(known, self.value(tensor).weight)
        return known

    def _hold(self, tensor: torch.Tensor) -> None:
        """Follow memory that never counts as alive: a weight's, or what was there before."""
        self._follow(tensor.untyped_storage(), Storage(0))

    @staticmethod
    def real(tensor: torch.Tensor) -> torch.Tensor | None:
        """The tensor with its values: itself, or what a meta twin stands for; None if unknown."""
        if tensor.device.type != "meta":
            return tensor
        return getattr(tensor, "_cspbench_real", None)


def channels_last(tensor: torch.Tensor) -> torch.memory_format | None:
    """The order with channels last, where torch takes a tensor's strides for that; else None.

    A kernel puts out its image in that order. One image whose batch has another stride than in
    that order is not taken for it, though its values lie so.
    """
    places = _LAST_PLACES.get(tensor.dim())
    if places is None or tensor.is_contiguous():
        return None
    shape, strides = tensor.shape, tensor.stride()
    least = 0
    if not strides[1]:
        return None
    for place in places:
        if not shape[place] or strides[place] < least or (not place and least == strides[1]):
            return None
        least = strides[place] * shape[place]
    return _LAST_ORDERS[len(places)]


def _like(tensor: torch.Tensor) -> torch.Tensor:
    """What ``empty_like`` makes of a tensor in another order, in a tenth of its time."""
    shape, strides = tuple(tensor.shape), tensor.stride()
    order = _LAST_ORDERS.get(len(shape))
    if order is not None and tensor.is_contiguous(memory_format=order):
        return torch.empty(shape, dtype=tensor.dtype, device=META, memory_format=order)
    if shapes.is_dense(shape, strides):
        return torch.empty_strided(shape, strides, dtype=tensor.dtype, device=META)
    return torch.empty_like(tensor, device=META)


def _meta_like(tensor: torch.Tensor) -> torch.Tensor:
    """An empty meta tensor of the same shape, strides and type.

    Raises:
        ValueError: a sparse tensor, whose operators are followed by rules of their own only.
    """
    if tensor.layout is not torch.strided:
        raise ValueError(f"a tensor of layout {tensor.layout} cannot be followed in this call")
    dtype = STORED_AS.get(tensor.dtype, tensor.dtype)
    return torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=dtype, device=META)
