"""One pass over a PyTorch module without computing anything.

Two levels watch the forward pass. A `TorchFunctionMode` answers the common operators itself: shapes
in Python, an empty meta tensor as the result (the meta kernels of batch norm and activations take
up to 2 ms a call, an empty meta tensor 2 us). Everything else runs its real meta kernel under a
`TorchDispatchMode`, which records the ATen operators that it is made of. So speed comes from the
first level and completeness from the second.

Liveness: every activation's storage is watched by a weak reference, so the bytes alive at any
moment are those that eager PyTorch would hold, for the same Python references keep them alive.
"""

from __future__ import annotations

import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cspbench.analysis.errors import DataDependentError, NoMetaKernelError
from cspbench.analysis.inventory import Inventory
from cspbench.analysis.metric import Facts
from cspbench.analysis.record import Layer, Shape
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight
from cspbench.errors import InputError

META = torch.device("meta")
_PATCH = threading.RLock()
_TORCH_DIR = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OWN_DIR = os.path.dirname(os.path.abspath(__file__)) + os.sep


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


class _FunctionMode(TorchFunctionMode):
    """First level: common operators by rules, the rest to the second level."""

    def __init__(self, tracer: Tracer, rules: dict[Any, Any], fallback: Callable[..., Any]) -> None:
        super().__init__()
        self._tracer = tracer
        self._rules = rules
        self._fallback = fallback

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = self._rules.get(func)
        if rule is None:
            return self._fallback(self._tracer, func, args, kwargs or {})
        return rule(self._tracer, func, args, kwargs or {})


@contextmanager
def _module_paths(inventory: Inventory, recorder: Recorder) -> Iterator[None]:
    """Keep ``recorder.path`` and ``stage`` at the innermost module that is being called.

    ``nn.Module.__call__`` is replaced for the while, as ``torch.fx`` does; global hooks would send
    every call through PyTorch's slow path.
    """
    paths, stages = inventory.paths, inventory.stages
    owner = threading.get_ident()
    with _PATCH:
        original = nn.Module.__call__

        def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(id(self))
            if path is None or threading.get_ident() != owner:
                return original(self, *args, **kwargs)
            outer, outer_stage = recorder.path, recorder.stage
            recorder.path, recorder.stage = path, stages[path]
            try:
                return original(self, *args, **kwargs)
            finally:
                recorder.path, recorder.stage = outer, outer_stage

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]


@contextmanager
def _inference(inventory: Inventory) -> Iterator[None]:
    """Evaluation mode without gradients; every flag is restored."""
    for child in inventory.training:
        child.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for child in inventory.training:
            child.training = True


class Trace:
    """What a pass saw."""

    def __init__(
        self, recorder: Recorder, input_shapes: tuple[Shape, ...], inventory: Inventory
    ) -> None:
        self.layers: list[Layer] = recorder.layers
        self.input_shapes = input_shapes
        self.facts = Facts(
            params=inventory.params,
            running_statistics=inventory.running_statistics,
            peak_live_bytes=recorder.peak_live_bytes,
            peak_layer=recorder.peak_index,
            weight_bytes=inventory.weight_bytes,
        )


def trace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Run the module's forward on shapes alone.

    Args:
        module: any module, with real or meta weights, on any device; it is not changed.
        args: example positional inputs; tensors may lie anywhere, only shape and dtype count.
        kwargs: example keyword inputs.

    Raises:
        InputError: the forward pass needs the values of its activations, or fails on these shapes;
            names the file and line of the model.
    """
    from cspbench.analysis.dispatch import fallback
    from cspbench.analysis.rules import RULES

    inventory = Inventory(module)
    tracer = Tracer(inventory)
    shapes: list[Shape] = []
    args, kwargs = _on_meta(tracer, (args, kwargs), shapes)
    recorder = tracer.recorder
    recorder.peak_live_bytes = recorder.live_bytes
    mode = _FunctionMode(tracer, RULES, fallback)
    try:
        with _inference(inventory), _module_paths(inventory, recorder), mode:
            result = module(*args, **kwargs)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_explain(error)) from error
    del result
    return Trace(recorder, tuple(shapes), inventory)


def _on_meta(tracer: Tracer, tree: Any, shapes: list[Shape]) -> Any:
    """The same structure of inputs with meta tensors, followed as activations."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        twin = torch.empty(tuple(leaf.shape), dtype=leaf.dtype, device=META)
        tracer.adopt(twin)
        shapes.append(tuple(leaf.shape))
        return twin

    return torch.utils._pytree.tree_map(convert, tree)


def _explain(error: Exception) -> str:
    """One sentence: where in the model's own code, what happened."""
    where = "the model"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_TORCH_DIR, _OWN_DIR, "<frozen")):
            where = f"{frame.filename}:{frame.lineno} ({frame.line})"
            break
    text = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, DataDependentError):
        return (
            f"{where}: {text}, and an analysis knows shapes only: "
            "the forward pass must not depend on data"
        )
    if isinstance(error, NoMetaKernelError):
        return f"{where}: {text}"
    return f"{where}: the forward pass fails on these shapes: {type(error).__name__}: {text}"
