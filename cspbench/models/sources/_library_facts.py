"""What a library says of its models: the size of their input, and how it prepares images.

Importing timm or torchvision imports torch and takes seconds, so a process of its own is asked, and
its answer is kept in the user's cache for that version of the library. A process that has imported
the library anyway asks it directly.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import file_version, open_input, write_whole
from cspbench.core.text import first_line
from cspbench.models.inputs import MAX_SIDE, Size

#: Library -> its module with ``list_models``.
MODULES = {"timm": "timm", "torchvision": "torchvision.models"}
#: What is executed must not come from the working directory, which ``-c`` would put first.
_ASK = (
    "import sys; sys.path[:] = sys.argv[1].split(':'); "
    "from cspbench.models.sources._library_facts import main; main(*sys.argv[2:])"
)
_ASK_SECONDS = 180
_MAX_BYTES = 8 * 2**20

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class LibraryFacts:
    """Of a model: height and width of its input, whether it takes no other, its preprocessing."""

    size: Size | None = None
    fixed: bool = False
    channels: int = 3
    preprocessing: str = ""


def problem(library: str) -> str | None:
    """Why a library cannot be used here; None if it can."""
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed (pip install {library})"
    reason = _table(library, "")[1]
    return f"{library} cannot be imported: {reason}" if reason else None


def facts_of(library: str, name: str) -> LibraryFacts:
    """What the library says of a model; nothing if it says nothing or is not there."""
    if importlib.util.find_spec(library) is None:
        return LibraryFacts()
    stated = _table(library, name)[0].get(name, {})
    size = stated.get("size")
    fits = isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))
    return LibraryFacts(
        size=(size[0], size[1]) if fits and size is not None else None,
        fixed=stated.get("fixed") is True,
        channels=stated["channels"] if _is_side(stated.get("channels")) else 3,
        preprocessing=str(stated.get("preprocessing", "")),
    )


def _is_side(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= MAX_SIDE


def _table(library: str, name: str) -> tuple[Table, str]:
    """What is known of a library's models, ``name`` among them, and why nothing can be known."""
    if MODULES[library] in sys.modules:
        answer = describe(library, name)
        return answer["models"], answer["problem"]
    return _asked(library, name, _key(library))


def _key(library: str) -> str:
    """Changes with the library's version and with torch's, which it must fit."""
    found = importlib.util.find_spec(library)
    origin = found.origin if found is not None else None
    parts = [library, str(origin), repr(file_version(Path(origin)) if origin else ())]
    for package in (library, "torch"):
        try:
            parts.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            parts.append("")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=4096)  # a plan asks for it with every case
def _asked(library: str, name: str, key: str) -> tuple[Table, str]:
    path = cache_folder("libraries") / f"{key}.json"
    table = _read(path)
    if table is not None and (not name or table.get(name)):
        return table, ""
    answer = _ask(library, name)
    if answer["problem"]:
        return {}, answer["problem"]
    table = {**(table or {}), **answer["models"]}
    try:
        make_cache_folder(path.parent)
        write_whole(path, json.dumps(table).encode(), shared=True)
    except OSError:  # it is asked again next time
        pass
    return table, ""


def _read(path: Path) -> Table | None:
    try:
        with open_input(path) as file:
            table = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(table, dict) and all(isinstance(one, dict) for one in table.values())
    return table if known else None


def _ask(library: str, name: str) -> dict[str, Any]:
    """Ask a new process."""
    paths = ":".join(os.path.abspath(path) for path in sys.path if path)
    command = [sys.executable, "-c", _ASK, paths, library, name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_ASK_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"models": {}, "problem": f"it did not answer within {_ASK_SECONDS} s"}
    except (IndexError, ValueError):
        return {"models": {}, "problem": f"its import ended the process ({done.returncode})"}
    return dict(answer)


def main(library: str, name: str) -> None:
    """Answer in one line, behind whatever the library prints."""
    os.write(1, f"\n{json.dumps(describe(library, name))}\n".encode())


def describe(library: str, name: str) -> dict[str, Any]:
    """What the library says: ``models`` by name, or why it cannot be imported (``problem``)."""
    try:
        module = importlib.import_module(MODULES[library])
    except Exception as error:
        return {"models": {}, "problem": first_line(error)}
    models: Table = {}
    with contextlib.suppress(Exception):  # a library without these functions says nothing
        names = [str(one) for one in module.list_models()]
        models = {one: _stated(library, module, one) for one in names}
        if name in models and not models[name]:
            models[name] = _of_config(_built_config(module, name)) or {"size": None}
    return {"models": models, "problem": ""}


def _stated(library: str, module: Any, name: str) -> dict[str, Any]:
    """What is known without building the model."""
    try:
        if library == "timm":
            return _of_config(module.get_pretrained_cfg(name))
        return _of_transforms(module.get_model_weights(name).DEFAULT.transforms())
    except Exception:
        return {}


def _built_config(module: Any, name: str) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        model = module.create_model(name, pretrained=False)
    return getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)


def _of_config(config: Any) -> dict[str, Any]:
    """Timm's configuration of a model."""
    values: Mapping[str, Any] = config if isinstance(config, Mapping) else vars(config or object)
    size = values.get("input_size")
    if not size:
        return {}
    said = [f"{key} {_numbers(values[name])}"
            for name, key in (("mean", "mean"), ("std", "std"), ("crop_pct", "crop"))
            if values.get(name)]  # fmt: skip
    return {
        "size": [int(side) for side in size[-2:]],
        "channels": int(size[0]),
        "fixed": bool(values.get("fixed_input_size")),
        "preprocessing": ", ".join(said),
    }


def _of_transforms(transforms: Any) -> dict[str, Any]:
    """Torchvision's preprocessing of a model's weights."""
    size = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None)
    if not size:
        return {}
    sides = [int(side) for side in size] if isinstance(size, list | tuple) else [int(size)]
    said = [f"{name} {_numbers(getattr(transforms, name))}"
            for name in ("mean", "std") if getattr(transforms, name, None)]  # fmt: skip
    return {"size": [sides[0], sides[-1]], "preprocessing": ", ".join(said)}


def _numbers(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join(f"{float(one):g}" for one in values)
