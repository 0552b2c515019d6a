"""Makes artifacts: exports a model that torch builds, or imports a file that is an artifact.

This runs in a worker process of its own. Only building a model imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.spec import ARTIFACTS
from cspbench.artifacts.tensors import as_list, input_tensor
from cspbench.core.case import ModelId
from cspbench.core.files import make_folder, replacing
from cspbench.errors import Unsupported
from cspbench.models.build import split_source
from cspbench.models.identity import source_files

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch


def maker(model: ModelId, seed: int) -> Callable[[ArtifactSpec], None]:
    """Return a function that makes artifacts of a model, which is built once for all of them.

    The returned function raises Unsupported if the artifact cannot be made.
    """
    source = split_source(model.model.name)
    if source is not None and source[0].artifact is not None:
        kind = source[0].artifact
        return lambda spec: import_artifact(spec, kind)
    module = build_model(model, seed)
    return lambda spec: prepare(spec, module)


def build_model(model: ModelId, seed: int) -> torch.nn.Module:
    """Build with seeded weights, in inference mode."""
    from cspbench.models.build import build

    return build(model, seed=seed).eval()


def prepare(spec: ArtifactSpec, module: torch.nn.Module | None = None) -> None:
    """Write the artifact and torch's outputs into the cache unless they exist.

    Args:
        spec: identity of the artifact.
        module: the built model of ``spec``, if the caller has it.

    Raises:
        Unsupported: the exporter cannot express the model.
    """
    if spec.exists:
        return
    import torch

    module = module or build_model(spec.model, spec.seed)
    make_folder(spec.path.parent)
    example = torch.from_numpy(input_tensor(spec.input_shape, spec.seed, 0))
    with replacing(spec.path, shared=True) as path:
        ARTIFACTS.get(spec.kind).export(module, example, path)
    with torch.inference_mode():
        outputs = [tensor.numpy() for tensor in as_list(module(example))]
    _write_outputs(spec.reference, outputs)


def import_artifact(spec: ArtifactSpec, kind: str) -> None:
    """Copy the user's file of artifact kind ``kind`` and its outputs into the cache.

    Raises:
        Unsupported: the file refuses the input, or ``spec`` has another kind.
        Unavailable: the library that computes the reference outputs is not installed.
    """
    if spec.exists:
        return
    import_file = ARTIFACTS.get(kind).import_file
    if spec.kind != kind or import_file is None:
        raise Unsupported(f"{spec.model.model} runs only on backends that read {kind} files")
    (file,) = source_files(spec.model)
    make_folder(spec.path.parent)
    with replacing(spec.path, shared=True) as path:
        outputs = import_file(file, path, input_tensor(spec.input_shape, spec.seed, 0))
    _write_outputs(spec.reference, outputs)


def _write_outputs(path: Path, outputs: Sequence[np.ndarray]) -> None:
    """Store reference outputs, in order, as ``.npz``."""
    import numpy as np

    with replacing(path, shared=True) as temporary:
        np.savez(temporary, *outputs)
