"""Models of other libraries by name: ``timm:NAME`` and ``torchvision:NAME``.

The input is the size that the library states for the model. Where the library is missing or cannot
be imported, the case is unavailable with that reason. Weights are drawn by the library's own
initialisation from seed 0, or loaded from the option ``weights``; nothing is downloaded.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.options import Options
from cspbench.core.text import first_line, nearest
from cspbench.errors import InputError, Unavailable
from cspbench.models.inputs import IMAGE
from cspbench.models.sources._library_facts import MODULES, facts_of, problem
from cspbench.models.sources.files import WEIGHTS, load_checkpoint, weights_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


def _spec(library: str, name: str) -> ModelSpec:
    if not _NAME.fullmatch(name):
        raise InputError(f"{library}:{name!r} must name a model of {library}")
    facts = facts_of(library, name)
    prepared = f" (its images: {facts.preprocessing})" if facts.preprocessing else ""
    return ModelSpec(
        name=f"{library}:{name}",
        summary=f"{name} of {library}{prepared}",
        source=library,
        confidence="own",
        build=lambda options: _build(library, name, options),
        family=library,
        input=facts.size or 224,
        fixed=facts.size if facts.fixed and facts.size else (None, None),
        inputs=(replace(IMAGE, shape=("N", facts.channels, "H", "W")),),
        stride=1,
        min_input=32,
        axes=(WEIGHTS,),
        staged=True,  # stages are found where there are any (cspbench.models.plug_in)
    )


#: Library -> what makes a model of its module without its weights.
_CREATE: dict[str, Callable[[Any, str], nn.Module]] = {
    "timm": lambda timm, name: timm.create_model(name, pretrained=False),
    "torchvision": lambda models, name: models.get_model(name, weights=None),
}


def _create(library: str, name: str) -> nn.Module:
    try:
        models = importlib.import_module(MODULES[library])
    except Exception as error:  # built for another torch: any class
        raise Unavailable(f"{library} cannot be imported: {first_line(error)}") from error
    names = list(models.list_models())
    if name not in names:
        raise InputError(f"{library} has no model {name!r}{nearest(name, names)}")
    try:
        return _CREATE[library](models, name)
    except (ImportError, OSError) as error:
        raise Unavailable(f"{library} cannot be imported: {first_line(error)}") from error


def _build(library: str, name: str, options: Options) -> nn.Module:
    """Return the library's model.

    Raises:
        Unavailable: the library is missing or cannot be imported here.
        InputError: no such model, or weights that do not fit it.
    """
    import torch

    reason = problem(library)
    if reason:
        raise Unavailable(reason)
    path = weights_file(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _create(library, name)
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
        available=lambda: problem(library),
        libraries=(library,),
    )


for _library in MODULES:
    SOURCES.add(_source(_library))
