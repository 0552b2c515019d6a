"""Makes artifacts: exports a model that torch builds, or imports a file that is an artifact.

This runs in a worker process of its own. Only building a model imports torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.reads import Reads, recording
from cspbench.artifacts.reference import Reference, judged_inputs, usable, write_reference
from cspbench.artifacts.spec import ARTIFACTS
from cspbench.artifacts.tensors import POOL_SIZE, arrays_of, as_list, seeded_feeds
from cspbench.core.cache import make_cache_folder
from cspbench.core.case import ModelId
from cspbench.core.files import replacing
from cspbench.errors import Unsupported
from cspbench.models.build import split_source
from cspbench.models.identity import source_files
from cspbench.models.input_file import input_file, read_inputs

if TYPE_CHECKING:
    import torch

    from cspbench.artifacts.tensors import Feed


def maker(model: ModelId, seed: int) -> Callable[[ArtifactSpec], None]:
    """Return a function that makes artifacts of a model, which is built once for all of them.

    The returned function raises Unsupported if the artifact cannot be made.
    """
    source = split_source(model.model.name)
    if source is not None and source[0].artifact is not None:
        kind = source[0].artifact
        return lambda spec: import_artifact(spec, kind)
    if source is None:
        module = build_model(model, seed)
        return lambda spec: prepare(spec, module)
    reads, folder = Reads(), ArtifactSpec(model, 1, "", seed).folder
    with recording(folder, reads):
        module = build_model(model, seed)
    return lambda spec: prepare(spec, module, reads)


def build_model(model: ModelId, seed: int) -> torch.nn.Module:
    """Build with seeded weights, in inference mode."""
    from cspbench.models.build import build

    return build(model, seed=seed)


def prepare(
    spec: ArtifactSpec, module: torch.nn.Module | None = None, reads: Reads | None = None
) -> None:
    """Write the artifact and torch's outputs into the cache unless they exist.

    Args:
        spec: identity of the artifact.
        module: the built model of ``spec``, if the caller has it.
        reads: what was read while it was built.

    Raises:
        Unsupported: the exporter cannot express the model.
    """
    if spec.ready:
        return
    import torch

    from cspbench.artifacts.branches import BranchWatch
    from cspbench.artifacts.torch_reference import torch_reference

    make_cache_folder(spec.reads.parent)
    reads = Reads() if reads is None else reads
    pool = _pool(spec)
    examples = tuple(map(torch.from_numpy, arrays_of(pool[0])))
    with recording(spec.folder, reads) if spec.builds else contextlib.nullcontext():
        module = module or build_model(spec.model, spec.seed)
        with torch.inference_mode(), BranchWatch(examples) as watch:
            result = module(*examples)
            outputs = [tensor.numpy() for tensor in as_list(result)]
    if spec.builds:  # where the artifact lies follows from them
        reads.write(spec.reads)
    flat = module if _is_plain(result) else _flattened(module)
    with replacing(spec.path, shared=True) as path:
        ARTIFACTS.get(spec.kind).export(flat, examples if len(examples) > 1 else examples[0], path)
    _write(spec, torch_reference(module, outputs, judged_inputs(pool), frozen=watch.depends), pool)


def _pool(spec: ArtifactSpec) -> list[Feed]:
    """Inputs of the model: those of its file, or seeded ones.

    Raises:
        InputError: the file does not hold what the model reads.
    """
    file = input_file(dict(spec.model.model.options))
    if file is not None:
        arrays = read_inputs(file, spec.inputs)
        return [arrays[0] if len(arrays) == 1 else arrays]
    return seeded_feeds(spec.inputs, spec.seed)


def _is_plain(result: Any) -> bool:
    """Whether exporters take a model's result as it is."""
    if isinstance(result, list | tuple):
        return all(map(_is_plain, result))
    return hasattr(result, "element_size")


def _flattened(module: torch.nn.Module) -> torch.nn.Module:
    """The same network with its outputs as a tuple of tensors."""
    import torch

    class Flattened(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(as_list(self.module(*inputs)))

    return Flattened().eval()


def import_artifact(spec: ArtifactSpec, kind: str) -> None:
    """Copy the user's file of artifact kind ``kind`` and its outputs into the cache.

    Raises:
        Unsupported: the file refuses the input, or ``spec`` has another kind.
        Unavailable: the library that computes the reference outputs is not installed.
    """
    if spec.ready:
        return
    import_file = ARTIFACTS.get(kind).import_file
    if spec.kind != kind or import_file is None:
        raise Unsupported(f"{spec.model.model} runs only on backends that read {kind} files")
    file, *_ = source_files(spec.model)
    make_cache_folder(spec.path.parent)
    with replacing(spec.path, shared=True) as path:
        pool = _pool(spec)
        outputs = import_file(file, path, pool[0])
        several = ARTIFACTS.get(kind).reference
        reference = (
            several(path, judged_inputs(pool))
            if several
            else Reference(f"the {kind} file", [outputs])
        )
    _write(spec, reference, pool)


def _write(spec: ArtifactSpec, reference: Reference, pool: list[Feed]) -> None:
    """Store the reference, and inputs that no seed makes; then the artifact is ready."""
    own = pool if len(pool) < POOL_SIZE else []
    with replacing(spec.reference, shared=True) as path:
        write_reference(path, usable(reference), own)
    spec.note_hashes()
