"""Adopt an ONNX file as an artifact: the user's file is the model, ONNX Runtime the reference.

This module imports onnx and onnxruntime; it runs in a worker process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.cache import ArtifactSpec, source_files
from cspbench.artifacts.store import write_atomically, write_outputs
from cspbench.artifacts.tensors import input_tensor
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    import numpy as np
    import onnx


def adopt_onnx(spec: ArtifactSpec) -> None:
    """Copy the file into the cache with the case's input shape, and keep the reference outputs.

    Raises:
        Unsupported: the file does not take the input, or another kind of artifact is wanted.
        Unavailable: ONNX Runtime, the reference, is not installed.
    """
    if spec.exists:
        return
    if spec.kind != "onnx":
        raise Unsupported("an ONNX file runs on backends that read ONNX")
    (path,) = source_files(spec.model)
    spec.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(spec.path, lambda target: _copy(path, target, spec.input_shape))
    write_outputs(spec.reference, _reference(spec))


def _copy(path: Path, target: Path, shape: tuple[int, ...]) -> None:
    """Write the model as one file, its first input with ``shape`` where it was left open."""
    import onnx

    model = onnx.load(str(path))
    _fix_input(model, shape)
    onnx.save_model(model, str(target))


def _fix_input(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    initialised = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialised]
    if len(inputs) != 1:
        raise Unsupported(f"the ONNX file has {len(inputs)} inputs; one image input can be fed")
    dims = inputs[0].type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise Unsupported(f"the ONNX file's input has {len(dims)} dimensions, not {len(shape)}")
    for dim, size in zip(dims, shape, strict=True):
        if dim.HasField("dim_value") and dim.dim_value not in (0, size):
            raise Unsupported(
                f"the ONNX file's input is fixed to {[d.dim_value for d in dims]}, "
                f"not {list(shape)}"
            )
        dim.dim_value = size


def _reference(spec: ArtifactSpec) -> list[np.ndarray]:
    """Outputs of ONNX Runtime for input 0 of the pool."""
    try:
        import onnxruntime
    except ImportError:
        reason = "ONNX Runtime, the reference of an ONNX file, is not installed"
        raise Unavailable(f"{reason} (pip install onnxruntime)") from None
    try:
        session = onnxruntime.InferenceSession(str(spec.path), providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: input_tensor(spec.input_shape, spec.seed, 0)}
        return list(session.run(None, feed))
    except Exception as error:  # its exceptions share only this base
        spec.path.unlink(missing_ok=True)
        raise Unsupported(f"ONNX Runtime cannot run the file: {str(error)[:300]}") from error
