"""What a pass over a module knows of its tensors: activations, weights, what is alive.

Liveness: every activation's storage is watched by a weak reference, so the bytes alive at any
moment are those that eager PyTorch would hold, for the same Python references keep them alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch

from cspbench.analysis.inventory import Inventory
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight

META = torch.device("meta")


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
        self._meta_twins: dict[int, torch.Tensor] = {}
        self._keep: list[Any] = []  # ids stay valid only while their objects live

    # -- tensors ------------------------------------------------------------------------------

    def value(self, tensor: torch.Tensor) -> Value:
        """The activation behind a tensor; a constant made in the forward pass becomes one."""
        known: Value | None = getattr(tensor, "_cspbench_value", None)
        if known is not None and known.owner is self.recorder:
            return known
        constant = None
        if tensor.device.type != "meta":
            constant = Weight(tuple(tensor.shape), tensor.element_size(), "constant")
        return self.adopt(tensor, constant)

    def weight(self, tensor: object) -> Weight | None:
        """The parameter or buffer that a tensor is, or None."""
        return self.weights.get(id(tensor))

    def filter(self, tensor: torch.Tensor) -> Weight | None:
        """The weight behind a filter: a parameter, what was derived of one, or a constant."""
        return self.weights.get(id(tensor)) or self.value(tensor).weight

    def empty(self, shape: Shape, dtype: torch.dtype, itemsize: int) -> tuple[torch.Tensor, Value]:
        """A new activation: a meta tensor whose storage is watched."""
        tensor = torch.empty(shape, dtype=dtype, device=META)
        return tensor, self._attach(tensor, shape, itemsize)

    def like(self, tensor: torch.Tensor, shape: Shape) -> tuple[torch.Tensor, Value]:
        """A new activation of another's type and, where it applies, memory format."""
        value = self.value(tensor)
        if tensor.is_contiguous():
            return self.empty(shape, tensor.dtype, value.itemsize)
        if shape == value.shape:
            out = torch.empty_like(tensor, device=META)
        elif len(shape) == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
            out = torch.empty(
                shape, dtype=tensor.dtype, device=META, memory_format=torch.channels_last
            )
        else:
            return self.empty(shape, tensor.dtype, value.itemsize)
        return out, self.adopt(out)

    def _attach(self, tensor: torch.Tensor, shape: Shape, itemsize: int) -> Value:
        recorder = self.recorder
        storage = self._watch(tensor)
        value = Value(recorder.new_id(), shape, itemsize, storage, None, recorder)
        tensor._cspbench_value = value  # type: ignore[attr-defined]
        return value

    def _watch(self, tensor: torch.Tensor) -> Storage:
        memory = tensor.untyped_storage()
        key = memory._cdata
        known = self.storages.get(key)
        if known is not None:
            return known.storage
        reference = _StorageRef(memory, self._freed)
        reference.key = key
        storage = reference.storage = Storage(memory.nbytes())
        self.storages[key] = reference
        self.recorder.live_bytes += storage.nbytes
        return storage

    def _freed(self, reference: _StorageRef) -> None:
        if self.storages.get(reference.key) is reference:
            del self.storages[reference.key]
        self.recorder.live_bytes -= reference.storage.nbytes

    def adopt(self, tensor: torch.Tensor, weight: Weight | None = None) -> Value:
        """Start to follow a tensor that came from elsewhere (a meta kernel, a constant, a view)."""
        value = self._attach(tensor, tuple(tensor.shape), tensor.element_size())
        value.weight = weight
        return value

    def rewritten(self, tensor: torch.Tensor, with_values: bool = True) -> Value:
        """The new value of a tensor that an in-place operator has overwritten.

        A constant into which activations were written is one no more (``with_values``).
        """
        old = self.value(tensor)
        weight = None if with_values else old.weight
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
        """A meta twin of a weight or constant, the same one at each call."""
        known = self._meta_twins.get(id(tensor))
        if known is not None:
            return known
        weight = self.weights.get(id(tensor))
        if tensor.device.type == "meta" and weight is None:
            return tensor
        twin = tensor
        if tensor.device.type != "meta":
            twin = torch.empty_strided(
                tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device=META
            )
        if weight is not None:
            self.weights[id(twin)] = weight
            # Not an activation: its memory must not count as alive.
            memory = twin.untyped_storage()
            reference = _StorageRef(memory)
            reference.key, reference.storage = memory._cdata, Storage(0)
            self.storages[reference.key] = reference
        self._meta_twins[id(tensor)] = self._meta_twins[id(twin)] = twin
        self._keep.extend((tensor, twin))
        return twin
