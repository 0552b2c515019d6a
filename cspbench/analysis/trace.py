"""One pass over a PyTorch module without computing anything.

Two levels watch the forward pass. A `TorchFunctionMode` answers the common operators itself: shapes
in Python, an empty meta tensor as the result (the meta kernels of batch norm and activations take
up to 2 ms a call, an empty meta tensor 2 us). Everything else runs its real meta kernel under a
`TorchDispatchMode`, which records the ATen operators that it is made of. So speed comes from the
first level and completeness from the second.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from cspbench.analysis.dispatch import fallback, tensors_of
from cspbench.analysis.errors import DataDependentError, NoMetaKernelError
from cspbench.analysis.inventory import Inventory
from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.leaves import LEAVES, call_of
from cspbench.analysis.metric import Facts
from cspbench.analysis.partial import is_detector, record_rest
from cspbench.analysis.recorder import Recorder
from cspbench.analysis.rules import CHECKED, RULES
from cspbench.analysis.rules.simple import ask
from cspbench.analysis.sight import PATCH, in_sight, is_alone, is_special
from cspbench.analysis.tracer import META, STORED_AS, Tracer
from cspbench.errors import InputError

_pop, _push = torch._C._pop_torch_function_stack, torch._C._push_on_torch_function_stack
_TORCH_DIR = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OWN_DIR = os.path.dirname(os.path.abspath(__file__)) + os.sep


#: Calls that were compared with torch's meta kernels in this process, by function and arguments.
_COMPARED: set[Any] = set()
_MOST_COMPARED = 10_000


class _FunctionMode(TorchFunctionMode):
    """First level: common operators by rules, the rest to the second level."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self._unchecked = set(CHECKED)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.answer(func, args, kwargs or {})

    def called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a call that torch has not brought here: the mode steps aside as by torch."""
        mode = _pop()
        try:
            return self.answer(func, args, kwargs)
        finally:
            _push(mode)

    def leaf(self, layer: nn.Module, args: tuple[Any, ...]) -> Any:
        """What a layer of one call puts out; ``NotImplemented`` if its own forward must tell."""
        mode = _pop()
        try:
            call = call_of(layer, args)
            return NotImplemented if call is None else self.answer(*call, {})
        finally:
            _push(mode)

    def answer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function puts out; the mode is not active meanwhile."""
        rule = RULES.get(func)
        if rule is ask:
            return func(*args, **kwargs)
        if rule is None or is_special():
            return fallback(self._tracer, func, args, kwargs)
        result = rule(self._tracer, func, args, kwargs)
        if func in self._unchecked and isinstance(result, torch.Tensor):
            self._unchecked.discard(func)
            self._check(func, args, kwargs, result)
        return result

    def _check(self, func: Any, args: Any, kwargs: dict[str, Any], result: torch.Tensor) -> None:
        """Compare what a rule put out with what torch's own meta kernel puts out, unrecorded.

        Most meta kernels import torch's compiler at their first call. That takes 2 s, ten times as
        long as an analysis, so only a process that has it compares.

        Raises:
            RuntimeError: they differ, so a count made of them would be wrong.
        """
        if "torch._dynamo" not in sys.modules:
            return
        key = (func, repr(_outline((args, kwargs))))
        if key in _COMPARED or len(_COMPARED) > _MOST_COMPARED:
            return
        if any(tensor.layout is not torch.strided for tensor in tensors_of((args, kwargs))):
            return
        args, kwargs = tree_map(
            lambda leaf: self._tracer.on_meta(leaf) if isinstance(leaf, torch.Tensor) else leaf,
            (args, kwargs),
        )
        try:
            expected = func(*args, **kwargs)
        except NotImplementedError:  # a kernel that has no meta form
            return
        if (expected.shape, expected.dtype) != (result.shape, result.dtype):
            name = getattr(func, "__name__", func)
            raise RuntimeError(
                f"{name} gives {tuple(expected.shape)} of {expected.dtype} in torch, and "
                f"{tuple(result.shape)} of {result.dtype} by our rule: report it to cspbench"
            )
        _COMPARED.add(key)


def _outline(leaf: Any) -> Any:
    """Shape and type of a tensor, also in lists and mappings; anything else as it is."""
    if isinstance(leaf, torch.Tensor):
        return *leaf.shape, leaf.dtype
    if isinstance(leaf, (tuple, list)):
        return [_outline(part) for part in leaf]
    if isinstance(leaf, dict):
        return {name: _outline(part) for name, part in leaf.items()}
    return leaf


@contextmanager
def _module_paths(tracer: Tracer, mode: _FunctionMode) -> Iterator[None]:
    """Keep ``recorder.path`` and ``stage`` at the innermost module that is being called.

    What ``nn.Module.__call__`` calls is replaced in each module for the while. Global hooks would
    send every call through PyTorch's slow path, and a change of the class itself takes half a
    millisecond, because Python then updates each class of modules.
    """
    recorder, inventory = tracer.recorder, tracer.inventory
    owner = threading.get_ident()
    original: Any = nn.Module._call_impl

    def call(module: nn.Module, path: str, stage: str, /, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner:
            return original(module, *args, **kwargs)
        outer, outer_stage = recorder.path, recorder.stage
        recorder.path, recorder.stage = path, stage
        try:
            if kwargs or type(module) not in LEAVES or not is_alone(()):
                return original(module, *args, **kwargs)
            result = mode.leaf(module, args)
            return original(module, *args) if result is NotImplemented else result
        finally:
            recorder.path, recorder.stage = outer, outer_stage

    with PATCH:
        for module in inventory.modules:
            path = inventory.paths[id(module)]
            module.__dict__["_call_impl"] = partial(call, module, path, inventory.stages[path])
        try:
            yield
        finally:
            for module in inventory.modules:
                module.__dict__.pop("_call_impl", None)


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
        with _inference(inventory), _module_paths(tracer, mode), in_sight(tracer, mode.called):
            with mode:
                result = module(*args, **kwargs)
            _check_outputs(tracer, result)
        del result
    except InputError:
        raise
    except Exception as error:
        if not (_depends_on_data(error) and is_detector(module)):
            raise InputError(_explain(error)) from error
        record_rest(inventory, recorder)
    return Trace(recorder, tuple(shapes), inventory)


def _on_meta(tracer: Tracer, tree: Any, shapes: list[Shape]) -> Any:
    """The same structure of inputs with meta tensors, followed as activations."""

    def convert(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.layout is not torch.strided or leaf.is_nested:
            raise InputError("an example input must be a dense tensor, neither sparse nor nested")
        dtype = STORED_AS.get(leaf.dtype, leaf.dtype)
        twin = torch.empty(tuple(leaf.shape), dtype=dtype, device=META)
        tracer.adopt(twin)
        shapes.append(tuple(leaf.shape))
        return twin

    return tree_map(convert, tree)


def _check_outputs(tracer: Tracer, result: Any) -> None:
    """Each result must have come from a recorded call; one that did not is told as untraced."""
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.Tensor) and tracer.weight(leaf) is None:
            tracer.value(leaf)


def _depends_on_data(error: Exception) -> bool:
    """True if values were asked for, be it where no mode sees it: the end of a slice."""
    return isinstance(error, DataDependentError) or "cannot be called on meta tensors" in str(error)


def _explain(error: Exception) -> str:
    """One sentence: where in the model's own code, what happened."""
    where = "the model"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_TORCH_DIR, _OWN_DIR, "<frozen")):
            where = f"{frame.filename}:{frame.lineno} ({frame.line})"
            break
    text = str(error).strip().split("\n")[0] or type(error).__name__
    if _depends_on_data(error):
        if not isinstance(error, DataDependentError):
            text = "a plain number needs the values of a tensor"
        return (
            f"{where}: {text}, and an analysis knows shapes only: "
            "the forward pass must not depend on data"
        )
    if isinstance(error, NoMetaKernelError):
        return f"{where}: {text}"
    return f"{where}: the forward pass fails on these shapes: {type(error).__name__}: {text}"
