"""Analyses of ids on disk, so that asking again costs milliseconds and imports no torch.

An entry's key holds the id, the version of the record, the sources of models and analysis, the
version of torch, and for a file (``darknet:``, ``onnx:``) the file's bytes. It holds facts and the
totals of our own metrics; those of other packages, whose sources no key knows, are computed from
the facts when an entry is read.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
from collections.abc import Iterable
from pathlib import Path

from cspbench.analysis.record import VERSION, Analysis
from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import file_digest, open_input, sources_digest, write_whole
from cspbench.models.identity import models_digest


@functools.cache
def _analysis_digest() -> str:
    """SHA-256 of the sources of this package."""
    return sources_digest(Path(__file__).parent)


@functools.cache
def _torch_version() -> str:
    """Version of torch as its package states it, without importing it."""
    spec = importlib.machinery.PathFinder.find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    try:
        return Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return ""


def entry(id_: str, files: Iterable[Path] = ()) -> Path:
    """Where the analysis of an id lies, made or not; ``files`` define the model besides its id."""
    digest = hashlib.sha256()
    for part in (str(VERSION), id_, models_digest(), _analysis_digest(), _torch_version()):
        digest.update(part.encode() + b"\0")
    for path in files:
        digest.update(file_digest(path).encode())
    return cache_folder("analyses") / f"{digest.hexdigest()[:32]}.json"


def read(path: Path) -> Analysis | None:
    """The stored analysis with every registered total, or None if there is none to read.

    Raises:
        InputError: a metric of another package cannot be computed.
    """
    try:
        with open_input(path) as file:
            head, _, rows = file.read().decode().partition("\n")
        stored = Analysis.from_parts(head, rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stored.complete()


def write(path: Path, analysis: Analysis) -> None:
    """Store an analysis; a cache that cannot be written is no error."""
    try:
        make_cache_folder(path.parent)
        write_whole(path, "\n".join(analysis.to_cache()).encode(), shared=True)
    except OSError:
        return
