"""Modules of the user's own code: ``python:net.py:factory`` or ``python:package.module:factory``.

Both need ``--allow-code``. ``factory()`` returns a ``torch.nn.Module`` that takes (batch, 3,
height, width). Where torch's generator decides its weights they are drawn from seed 0. A module is
looked for in the working directory too, as with ``python -m``; what a file imports is looked for
beside it, as with ``python net.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from cspbench.core.options import Options
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.code import require_code
from cspbench.models.input_file import INPUTS, input_file
from cspbench.models.sources._imports import imported_files
from cspbench.models.sources.files import WEIGHTS, load_checkpoint, regular_file, weights_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_FACTORY = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class _Target(NamedTuple):
    """A module by its name or its file, and what makes the network there."""

    module: str
    factory: str
    file: Path | None = None


def _split(target: str) -> _Target:
    module, _, factory = target.rpartition(":")
    if _FACTORY.fullmatch(factory):
        if module.lower().endswith(".py"):
            return _Target(Path(module).stem, factory, regular_file(module, "Python code"))
        if _MODULE.fullmatch(module):
            return _Target(module, factory)
    raise InputError(
        f"python:{target!r} must be written net.py:factory or python:package.module:factory"
    )


def _imported(target: _Target) -> ModuleType:
    """Import the module; what a file imports is found beside it."""
    folder = os.getcwd() if target.file is None else str(target.file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    if target.file is None:
        return importlib.import_module(target.module)
    name = f"_cspbench_model_{target.module}"
    spec = importlib.util.spec_from_file_location(name, target.file)
    assert spec is not None, "the ending is that of a module"
    assert spec.loader is not None, "a file has a loader"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _where(error: Exception) -> str:
    """What an error of the user's code says, and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({last.filename}:{last.lineno})"


def spec(target: str) -> ModelSpec:
    """Describe the target without importing it: any input size, 224 unless the case says.

    Raises:
        InputError: not of the form ``net.py:factory`` or ``package.module:factory``, or there is no
            such file.
    """
    _split(target)
    return ModelSpec(
        name=f"python:{target}",
        summary="a module made by the user's code",
        source=target,
        confidence="own",
        build=lambda options: build(target, options),
        family="python",
        stride=1,
        min_input=1,
        axes=(WEIGHTS, INPUTS),
        necks=True,  # where the module offers features, as backbones do
        staged=True,  # stages that it offers (cspbench.models.csp) or that are found (plug_in)
    )


def build(target: str, options: Options) -> nn.Module:
    """Import the factory and call it.

    Raises:
        InputError: code is not allowed, it fails, there is no such factory, or it returns no module
            whose weights exist.
    """
    import torch
    from torch.nn.parameter import is_lazy

    split = _split(target)
    require_code(f"python:{target}")
    path = weights_file(options)
    try:
        factory = getattr(_imported(split), split.factory)
    except (ImportError, AttributeError) as error:
        raise InputError(f"python:{target}: {error}") from error
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"python:{target}: importing it fails: {_where(error)}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            module = factory()
        except Exception as error:
            raise InputError(f"python:{target}: calling it fails: {_where(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"python:{target}: returned {type(module).__name__}, not a torch module")
    if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        raise InputError(
            f"python:{target}: its layers are lazy, so that its weights do not exist yet; run the "
            "module once on an input before the factory returns it"
        )
    if path is not None:
        load_checkpoint(module, path)
    return module


def _files(target: str, options: Options) -> tuple[Path, ...]:
    """The module's own file, those that it imports from beside it, and the weights.

    They are found without importing anything.
    """
    split = _split(target)
    others = [one for one in (weights_file(options), input_file(options)) if one is not None]
    if split.file is not None:
        imported = imported_files(split.file, [split.file.resolve().parent])
        return (split.file, *imported, *others)
    relative = Path(*split.module.split("."))
    roots = [Path(entry or ".") for entry in (os.getcwd(), *sys.path)]
    candidates = [root / relative for root in roots]
    names = [f for c in candidates for f in (c.with_suffix(".py"), c / "__init__.py")]
    files = [file for file in names if file.is_file()][:1]
    own = [file for file in files if file.is_relative_to(os.getcwd())]
    imported = imported_files(own[0], [Path(os.getcwd())]) if own else ()
    return (*files, *imported, *others)


SOURCES.add(
    SourceSpec(
        name="python", summary="a factory in the user's code: net.py:factory or "
        "package.module:factory", spec=spec, build=build, axes=(WEIGHTS, INPUTS), runs_code=True,
        files=_files, endings=(".py",), member=True,
    )
)  # fmt: skip
