"""Artifacts: models in the form that a backend loads, in the user's cache by content hash.

An artifact is made once for (model definition, input, batch, seed, kind, exporter), and later runs
use it again. The file ``.npz`` beside the model holds torch's outputs for input 0 of the pool, with
which every worker checks that its backend computes the same function.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from cspbench.artifacts.spec import ARTIFACTS, HASHES_SUFFIX, REFERENCE_SUFFIX
from cspbench.core.cache import cache_folder
from cspbench.core.case import ModelId
from cspbench.core.files import file_digest, write_whole
from cspbench.models.build import inputs_of
from cspbench.models.identity import models_digest, source_digests
from cspbench.models.inputs import TensorInput

#: Raise when the exporter or the layout of an artifact changes.
FORMAT = 1


@dataclass(frozen=True)
class ArtifactSpec:
    """The identity of an artifact; ``kind`` is the name of an ArtifactKind."""

    model: ModelId
    batch: int
    kind: str
    seed: int

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that can change the artifact's content, a source's files included.

        Raises:
            InputError: the kind is not registered.
        """
        facts = {
            "format": FORMAT,
            "model": str(self.model),
            "batch": self.batch,
            "kind": self.kind,
            "seed": self.seed,
            "opset": None,  # part of every key so far: existing artifacts keep their keys
            "torch": _version("torch"),
            "definition": models_digest(),
            "files": source_digests(self.model),
            **ARTIFACTS.get(self.kind).identity(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def item(self) -> dict[str, int | str]:
        """What a request to prepare the model says of this artifact."""
        return {"batch": self.batch, "kind": self.kind, "key": self.key}

    @property
    def inputs(self) -> tuple[TensorInput, ...]:
        """What the model reads.

        Raises:
            InputError: the model's file does not take this batch.
        """
        return inputs_of(self.model, self.batch)

    @property
    def path(self) -> Path:
        """Path of the model in the cache, whether it exists or not."""
        return cache_folder("artifacts") / f"{self.key}.{ARTIFACTS.get(self.kind).suffix}"

    @property
    def reference(self) -> Path:
        """Path of torch's outputs for input 0 of the pool."""
        return self.path.with_suffix(f".{REFERENCE_SUFFIX}")

    @property
    def hashes(self) -> Path:
        """Path of the SHA-256 of both files, which is written last."""
        return self.path.with_suffix(f".{HASHES_SUFFIX}")

    @property
    def ready(self) -> bool:
        """True if the artifact and its reference are in the cache as they were written.

        Both are hashed, so that damaged or exchanged files are made again.
        """
        try:
            noted = self.hashes.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return False
        return noted == [file_digest(self.path), file_digest(self.reference)]

    def note_hashes(self) -> None:
        """Write the hashes of both files: the artifact is ready."""
        text = " ".join((file_digest(self.path), file_digest(self.reference)))
        write_whole(self.hashes, text.encode(), shared=True)


@functools.cache  # every case asks for it
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
