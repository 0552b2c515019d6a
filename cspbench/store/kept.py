"""What was measured of a machine as such, kept in the user's cache for what comes later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import open_input, write_whole
from cspbench.machine.comparability import Use, identity
from cspbench.machine.facts import fingerprint

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def kept_file(folder: str, *about: object, facts: Mapping[str, Any] | None = None) -> Path:
    """Path of the file in a folder of the cache, whether it exists or not.

    Args:
        folder: of the cache.
        about: what else than the machine tells the file from others.
        facts: the machine's fingerprint; this machine's by default.
    """
    machine = identity(fingerprint(()) if facts is None else facts, Use.CEILINGS)
    text = json.dumps([machine, *about])
    return cache_folder(folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def read_kept(file: Path, kind: type[T]) -> T | None:
    """The dataclass in a file; None without a readable one."""
    try:
        with open_input(file) as opened:
            return kind(**json.load(opened))
    except (OSError, ValueError, TypeError):
        return None


def keep(file: Path, value: DataclassInstance) -> Path:
    """Write a dataclass; return the file."""
    make_cache_folder(file.parent)
    write_whole(file, json.dumps(asdict(value)).encode(), shared=True)
    return file
