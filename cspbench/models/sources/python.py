"""Modules of the user's own code: ``python:package.module:factory``. Needs ``--allow-code``.

``factory()`` returns a ``torch.nn.Module`` that takes (batch, 3, height, width). Where torch's
generator decides its weights they are drawn from seed 0. The working directory can be imported
from, as with ``python -m``.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.errors import InputError
from cspbench.models.code import require_code
from cspbench.models.sources.files import WEIGHTS, load_checkpoint, weights_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


def _split(target: str) -> tuple[str, str]:
    match = _TARGET.fullmatch(target)
    if not match:
        raise InputError(f"python:{target!r} must be written python:package.module:factory")
    return match[1], match[2]


def spec(target: str) -> ModelSpec:
    """Describe the target without importing it: any input size, 224 unless the case says.

    Raises:
        InputError: not of the form ``package.module:factory``.
    """
    _split(target)
    return ModelSpec(
        name=f"python:{target}",
        summary="a module made by the user's code",
        source=target,
        confidence="confirmed",
        build=lambda options: build(target, options),
        family="python",
        stride=1,
        min_input=1,
        axes=(WEIGHTS,),
        necks=True,  # where the module offers features, as backbones do
        staged=True,  # where it offers stages (cspbench.models.csp)
    )


def build(target: str, options: Options) -> nn.Module:
    """Import the factory and call it.

    Raises:
        InputError: code is not allowed, there is no such factory, or it returns no module.
    """
    import torch

    module_name, factory_name = _split(target)
    require_code(f"python:{target}")
    path = weights_file(options)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"python:{target}: {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = factory()
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"python:{target}: returned {type(module).__name__}, not a torch module")
    if path is not None:
        load_checkpoint(module, path)
    return module


def _files(target: str, options: Options) -> tuple[Path, ...]:
    """The module's own file (found without importing it) and the weights."""
    module_name, _ = _split(target)
    relative = Path(*module_name.split("."))
    roots = [Path(entry or ".") for entry in (os.getcwd(), *sys.path)]
    candidates = [root / relative for root in roots]
    names = [f for c in candidates for f in (c.with_suffix(".py"), c / "__init__.py")]
    files = [file for file in names if file.is_file()][:1]
    weights = weights_file(options)
    return (*files, *([] if weights is None else [weights]))


SOURCES.add(
    SourceSpec(
        name="python", summary="a factory in the user's code: package.module:factory", spec=spec,
        build=build, axes=(WEIGHTS,), runs_code=True, files=_files,
    )
)  # fmt: skip
