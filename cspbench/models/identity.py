"""What identifies a model: its canonical id, the files that define it, the definitions' digest."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from cspbench.core.case import ModelId, Ref
from cspbench.core.files import file_digest, file_version, sources_digest
from cspbench.core.options import Axis, without_defaults
from cspbench.errors import InputError
from cspbench.models.build import (
    as_model_id,
    checked_options,
    closed_inputs,
    default_input,
    refuses_fixed,
    spec_of,
    split_source,
)
from cspbench.models.spec import NECKS


def canonical(model: str | os.PathLike[str] | ModelId) -> ModelId:
    """Return the id with its input filled in, checked options, and no option at its default.

    Raises:
        InputError: an unknown model, neck or option, a size that the model's file does not take, or
            an axis of it that nothing decides.
    """
    parsed = as_model_id(model)
    spec = spec_of(parsed)
    size = default_input(parsed)
    refused = refuses_fixed(spec, size)
    if refused:
        raise InputError(f"{spec.name}: the input {refused}")
    closed_inputs(spec, dict(parsed.model.options))
    neck = None
    if parsed.neck is not None:
        neck = _trim("neck", parsed.neck, NECKS.get(parsed.neck.name).axes)
    return ModelId(_trim("model", parsed.model, spec.all_axes), neck, size)


def _trim(kind: str, ref: Ref, axes: Iterable[Axis]) -> Ref:
    return Ref.of(ref.name, without_defaults(axes, checked_options(kind, ref, axes)))


def source_files(model: ModelId) -> tuple[Path, ...]:
    """Files that define a model of a source (``darknet:a.cfg``); none for a model of the zoo."""
    source = split_source(model.model.name)
    return source[0].files(source[1], dict(model.model.options)) if source else ()


def source_digests(model: ModelId) -> list[str]:
    """SHA-256 of each file that defines a model of a source; empty for one that cannot be read.

    A file is read again only if it changed: every case of a plan asks.
    """
    return [_digest(path, *version) if (version := file_version(path)) else ""
            for path in source_files(model)]  # fmt: skip


@functools.lru_cache(maxsize=256)
def _digest(path: Path, *_version: int) -> str:
    return file_digest(path)


@functools.cache
def models_digest() -> str:
    """SHA-256 of the source of all model definitions: a changed definition is another model."""
    return sources_digest(Path(__file__).parent)
