"""What others call: `analyze` a module, `analyze_id` a model by its id."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.analysis.record import Analysis, analysis_of
from cspbench.core.case import ModelId
from cspbench.core.garbage import without_collections
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.build import as_model_id

if TYPE_CHECKING:
    from torch import nn

#: Sources whose models are wholly defined by files, which the cache's key then holds.
_FILE_SOURCES = ("darknet:", "onnx:")


def analyze(module: nn.Module, example_input: Any = None, cache: bool = True) -> Analysis:
    """Analyse a module in one pass, without running it and without changing it.

    The forward pass is followed in evaluation mode on shapes alone, so the weights may be real,
    on any device, or on ``meta``.

    Args:
        module: an ``nn.Module``, or a ``torch.export.ExportedProgram`` (then without an input).
        example_input: a tensor, a shape such as ``(1, 3, 224, 224)`` (float32), a tuple or list of
            positional inputs, or a mapping of keyword inputs. Only shapes and types count.
        cache: whether an earlier analysis of this very module and these inputs may be returned.
            Its submodules, parameters and plain attributes are compared; pass False if its
            forward depends on anything else.

    Raises:
        InputError: not a module, no usable input, or a forward pass that needs the values of
            activations or fails on these shapes (with the model's file and line).
    """
    from torch import nn
    from torch.export import ExportedProgram

    from cspbench.analysis import memo

    if isinstance(module, ExportedProgram):
        from cspbench.analysis.exported import analyze_program

        return analyze_program(module)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module can be analysed, not {type(module).__name__}")
    args, kwargs = arguments(example_input)
    if not cache:
        return _traced(module, args, kwargs)
    key = memo.fingerprint(module, args, kwargs)
    known = memo.recall(module, key)
    if known is None:
        known = _traced(module, args, kwargs)
        memo.remember(module, key, known)
    return known.complete()


def arguments(example_input: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs of an example as `analyze` takes it.

    Raises:
        InputError: it is none of the forms that `analyze` takes.
    """
    import torch

    if isinstance(example_input, torch.Tensor):
        return (example_input,), {}
    if isinstance(example_input, Mapping):
        return (), dict(example_input)
    if isinstance(example_input, Sequence) and not isinstance(example_input, str):
        if example_input and all(type(side) is int for side in example_input):
            if min(example_input) < 0:
                raise InputError(f"{tuple(example_input)} is not the shape of a tensor")
            return (torch.empty(tuple(example_input), device="meta"),), {}
        return tuple(example_input), {}
    raise InputError(
        "the example input must be a tensor, a shape, a tuple of inputs or a mapping of keyword "
        f"inputs, not {type(example_input).__name__}"
    )


def _traced(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Analysis:
    from cspbench.analysis.trace import trace

    with without_collections():  # they take a third of the time, and would free by chance
        seen = trace(module, args, kwargs)
        name = type(module).__name__
        return analysis_of(name, "torch", seen.input_shapes, seen.layers, seen.facts)


def analyze_id(
    model: str | os.PathLike[str] | ModelId, *, batch: int = 1, cache: bool = True
) -> Analysis:
    """Analyse a model by its id or its file: ``csppeleenet[gamma=0.25]@224``, ``nets/a.onnx``.

    Without ``@`` the model's own input is taken. Analyses are kept in the user's cache
    (``$CSPBENCH_CACHE``); one that is there comes back without importing torch.

    Raises:
        InputError: an unknown model or option, or a file that cannot be read.
    """
    parsed = as_model_id(model)
    name = parsed.model.name
    from_file = name.startswith(_FILE_SOURCES)
    if not cache or (":" in name and not from_file):
        return _analyze_id(parsed, batch)[0]
    from cspbench.analysis import cache as store

    path = _entry(parsed, batch)
    known = store.read(path)
    if known is not None:
        return known
    analysis, ours = _analyze_id(parsed, batch)
    if ours:
        store.write(path, analysis)
    return analysis


def cached_analysis(model: str | ModelId, *, batch: int = 1) -> Analysis | None:
    """The analysis that `analyze_id` would find in the cache; None if it would have to work."""
    from cspbench.analysis import cache as store

    return store.read(_entry(as_model_id(model), batch))


def _entry(parsed: ModelId, batch: int) -> Path:
    from cspbench.analysis import cache as store

    name = parsed.model.name
    files = [Path(name.partition(":")[2])] if name.startswith(_FILE_SOURCES) else []
    return store.entry(f"{parsed}/b{batch}", files)


def _analyze_id(parsed: ModelId, batch: int) -> tuple[Analysis, bool]:
    """The analysis, and whether the model's definition is all ours, so that the key names it."""
    from cspbench.models.build import build, inputs_of, spec_of
    from cspbench.models.identity import canonical
    from cspbench.models.plug_in import notes_of
    from cspbench.models.spec import NECKS

    full = canonical(parsed)
    inputs = inputs_of(full, batch)
    name = parsed.model.name
    if name.startswith("onnx:"):
        from cspbench.analysis.onnx_graph import analyze_onnx

        analysis = analyze_onnx(name.partition(":")[2], [one.sides for one in inputs])
    elif name.startswith("exported:"):
        analysis = _exported(parsed)
    else:
        module = build(full, weights=False)
        analysis = analyze(module, inputs[0].sides, cache=False)
        analysis.notes = notes_of(module)
    specs = [spec_of(parsed)]
    ours = all(_is_ours(spec.build) for spec in specs)
    if parsed.neck is not None:
        ours = ours and _is_ours(NECKS.get(parsed.neck.name).build)
    return replace(analysis, id=str(full)), ours


def _exported(parsed: ModelId) -> Analysis:
    import torch

    from cspbench.analysis.exported import analyze_program
    from cspbench.models.code import require_code
    from cspbench.models.sources.files import regular_file

    require_code(parsed.model.name)
    path = parsed.model.name.partition(":")[2]
    try:
        program = torch.export.load(regular_file(path, "an exported program"))
    except Exception as error:  # the loader has no error class of its own
        raise InputError(f"{path}: torch cannot load it ({first_line(error)})") from error
    return analyze_program(program)


def _is_ours(build: Any) -> bool:
    """True if a build function is part of this package, whose sources are in the key."""
    function = getattr(build, "func", build)
    return str(getattr(function, "__module__", "")).startswith("cspbench.")
