"""Artifacts: models in the form that a backend eats, in the user's cache by content hash.

An artifact is made once for (model definition, input, batch, seed, kind, exporter) and found again
by every later run. Next to the model lies ``.npz``: torch's outputs for input 0 of the pool, with
which every worker checks that its backend computes the same function.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cspbench.core.case import ModelId

ArtifactKind = Literal["onnx", "pt2"]

#: ONNX opset; 17 is the newest that the TorchScript exporter writes and every backend reads.
OPSET = 17
#: Raise when the exporter or the layout of an artifact changes.
FORMAT = 1


@dataclass(frozen=True)
class ArtifactSpec:
    """What to export: the identity of an artifact."""

    model: ModelId
    batch: int
    kind: ArtifactKind
    seed: int

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that can change the artifact's content, a source's files included."""
        facts = {
            "format": FORMAT,
            "model": str(self.model),
            "batch": self.batch,
            "kind": self.kind,
            "seed": self.seed,
            "opset": OPSET if self.kind == "onnx" else None,
            "torch": _version("torch"),
            "definition": models_digest(),
            "files": [file_digest(path) for path in source_files(self.model)],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        assert self.model.input is not None, "an artifact has a definite input"
        return (self.batch, 3, *self.model.input)

    @property
    def path(self) -> Path:
        """Where the model lies in the cache, made or not."""
        return cache_folder() / "artifacts" / f"{self.key}.{self.kind}"

    @property
    def reference(self) -> Path:
        """Torch's outputs for input 0 of the pool."""
        return self.path.with_suffix(".npz")

    @property
    def exists(self) -> bool:
        """True if the artifact is ready; the reference is written last."""
        return self.path.exists() and self.reference.exists()


def source_files(model: ModelId) -> tuple[Path, ...]:
    """Files that define a model of a source (``darknet:a.cfg``); none for a model of the zoo."""
    from cspbench.models.build import split_source

    found = split_source(model.model.name)
    return found[0].files(found[1], dict(model.model.options)) if found else ()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read, which whoever builds the model tells."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def cache_folder() -> Path:
    """``$CSPBENCH_CACHE``, or the user's cache folder for cspbench."""
    given = os.environ.get("CSPBENCH_CACHE")
    if given:
        return Path(given)
    # Here, because a worker in another environment needs no more than its backend.
    import platformdirs

    return Path(platformdirs.user_cache_dir("cspbench"))


@functools.cache
def models_digest() -> str:
    """SHA-256 of the source of all model definitions: a changed definition is another model."""
    import cspbench.models

    root = Path(cspbench.models.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache  # of a thousand cases each asks
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
