"""One pass over a PyTorch module without computing anything.

Two levels watch the forward pass. A `TorchFunctionMode` answers the common operators itself: shapes
in Python, an empty meta tensor as the result (the meta kernels of batch norm and activations take
up to 2 ms a call, an empty meta tensor 2 us). Everything else runs its real meta kernel under a
`TorchDispatchMode`, which records the ATen operators that it is made of. So speed comes from the
first level and completeness from the second.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cspbench.analysis.dispatch import fallback
from cspbench.analysis.errors import DataDependentError, NoMetaKernelError
from cspbench.analysis.inventory import Inventory
from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.metric import Facts
from cspbench.analysis.recorder import Recorder
from cspbench.analysis.rules import RULES
from cspbench.analysis.tracer import META, Tracer
from cspbench.errors import InputError

_PATCH = threading.RLock()
_TORCH_DIR = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OWN_DIR = os.path.dirname(os.path.abspath(__file__)) + os.sep


class _FunctionMode(TorchFunctionMode):
    """First level: common operators by rules, the rest to the second level."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None:
            return fallback(self._tracer, func, args, kwargs or {})
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
    inventory = Inventory(module)
    tracer = Tracer(inventory)
    shapes: list[Shape] = []
    args, kwargs = _on_meta(tracer, (args, kwargs), shapes)
    recorder = tracer.recorder
    recorder.peak_live_bytes = recorder.live_bytes
    mode = _FunctionMode(tracer)
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
