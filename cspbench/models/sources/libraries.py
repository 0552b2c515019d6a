"""Models of other libraries by name: ``timm:NAME`` and ``torchvision:NAME``.

Where the library is missing, the case is unavailable with that reason. Weights are drawn by the
library's own initialisation from seed 0, or loaded from the option ``weights``; nothing is
downloaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.options import Options
from cspbench.core.text import nearest
from cspbench.errors import InputError, Unavailable
from cspbench.models.sources.files import WEIGHTS, load_checkpoint, weights_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


def _missing(library: str) -> str | None:
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed (pip install {library})"
    return None


def _spec(library: str, name: str) -> ModelSpec:
    if not _NAME.fullmatch(name):
        raise InputError(f"{library}:{name!r} must name a model of {library}")
    return ModelSpec(
        name=f"{library}:{name}",
        summary=f"{name} of {library}",
        source=library,
        confidence="confirmed",
        build=lambda options: _build(library, name, options),
        family=library,
        min_input=32,
        axes=(WEIGHTS,),
    )


#: Library -> its module with ``list_models``, and what makes a model there without its weights.
_LIBRARIES: dict[str, tuple[str, Callable[[Any, str], nn.Module]]] = {
    "timm": ("timm", lambda timm, name: timm.create_model(name, pretrained=False)),
    "torchvision": (
        "torchvision.models",
        lambda models, name: models.get_model(name, weights=None),
    ),
}


def _create(library: str, name: str) -> nn.Module:
    module, create = _LIBRARIES[library]
    models = importlib.import_module(module)
    names = list(models.list_models())
    if name not in names:
        raise InputError(f"{library} has no model {name!r}{nearest(name, names)}")
    return create(models, name)


def _build(library: str, name: str, options: Options) -> nn.Module:
    """Return the library's model.

    Raises:
        Unavailable: the library is missing or cannot be imported here.
        InputError: no such model, or weights that do not fit it.
    """
    import torch

    reason = _missing(library)
    if reason:
        raise Unavailable(reason)
    path = weights_file(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            module = _create(library, name)
        except (ImportError, OSError) as error:  # built for another torch
            raise Unavailable(f"{library} cannot be imported: {error}") from error
    if path is not None:
        load_checkpoint(module, path)
    return module


def _files(_target: str, options: Options) -> tuple[Path, ...]:
    weights = weights_file(options)
    return () if weights is None else (weights,)


def _source(library: str) -> SourceSpec:
    return SourceSpec(
        name=library,
        summary=f"a model of {library} by its name there",
        spec=lambda name: _spec(library, name),
        build=lambda name, options: _build(library, name, options),
        axes=(WEIGHTS,),
        files=_files,
        available=lambda: _missing(library),
    )


for _library in _LIBRARIES:
    SOURCES.add(_source(_library))
