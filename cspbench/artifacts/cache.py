"""Artifacts: models in the form that a backend loads, in the user's cache by content hash.

An artifact is made once for (model definition, input, batch, seed, kind, exporter), and later runs
use it again. What a model's own code read while it was built is kept by name for the folder of the
model, and the artifact lies under the hash of what these files hold now: a changed one, and another
checkout, has an artifact of its own (`cspbench.artifacts.reads`). The file ``.npz`` beside the
model holds torch's outputs for input 0 of the pool, with which every worker checks that its backend
computes the same function.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cspbench.artifacts.reads import Reads, version
from cspbench.artifacts.spec import ARTIFACTS, HASHES_SUFFIX, READS_SUFFIX, REFERENCE_SUFFIX
from cspbench.core.cache import cache_folder
from cspbench.core.case import ModelId
from cspbench.core.files import file_digest, write_whole
from cspbench.models.build import inputs_of, split_source
from cspbench.models.identity import models_digest, source_digests, source_files
from cspbench.models.inputs import TensorInput
from cspbench.models.spec import SourceSpec

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
            "torch": version("torch"),
            "definition": models_digest(),
            "files": source_digests(self.model),
            **self._library_versions(),
            **ARTIFACTS.get(self.kind).identity(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def _library_versions(self) -> dict[str, dict[str, str]]:
        names = self._source.libraries if self._source else ()
        return {"libraries": {name: version(name) for name in names}} if names else {}

    @functools.cached_property
    def _source(self) -> SourceSpec | None:
        source = split_source(self.model.model.name)
        return source[0] if source else None

    @property
    def builds(self) -> bool:
        """Whether code or files from outside of cspbench are read to build the model."""
        return self._source is not None and self._source.artifact is None

    @functools.cached_property
    def folder(self) -> Path:
        """Beside the file that defines the model; the working directory if there is none."""
        files = source_files(self.model)
        return files[0].resolve().parent if files else Path.cwd()

    @property
    def reads(self) -> Path:
        """Where the names are kept of what was read while the model was built in its folder."""
        place = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return cache_folder("artifacts") / f"{self.key}-{place}.{READS_SUFFIX}"

    @property
    def _stem(self) -> str | None:
        """Name of the files in the cache; None before a model of a source was built here."""
        if not self.builds:
            return self.key
        reads = Reads.read(self.reads)
        return None if reads is None else f"{self.key}-{reads.digest(self.folder)}"

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
        """Path of the model in the cache, whether it exists or not.

        It stays what it was when the artifact was last found to be ready.
        """
        stem = self.__dict__.get("_ready") or self._stem or self.key
        return cache_folder("artifacts") / f"{stem}.{ARTIFACTS.get(self.kind).suffix}"

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

        Both are hashed, so that damaged or exchanged files are made again. What the model read when
        it was built must be what it would read now.
        """
        return self.settle()

    def settle(self) -> bool:
        """Look whether it is ready, and keep to that artifact whatever becomes of the files."""
        self.__dict__["_ready"] = None
        stem = self._stem
        if stem is None:
            return False
        self.__dict__["_ready"] = stem if self._is_whole() else None
        return self.__dict__["_ready"] is not None

    def _is_whole(self) -> bool:
        try:
            noted = self.hashes.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return False
        return noted == [file_digest(self.path), file_digest(self.reference)]

    def note_hashes(self) -> None:
        """Write the hashes of both files: the artifact is ready."""
        text = " ".join((file_digest(self.path), file_digest(self.reference)))
        write_whole(self.hashes, text.encode(), shared=True)
