"""ONNX files: ``onnx:path.onnx``. The file itself is the artifact and ONNX Runtime the reference.

The input's shape is read by walking the file's protobuf fields and seeking over everything else, so
that planning costs neither the memory of the weights nor an import.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.files import open_input
from cspbench.core.options import Options
from cspbench.errors import InputError, Unsupported
from cspbench.models.sources.files import image_side, regular_file
from cspbench.models.sources.onnx_data import data_files
from cspbench.models.sources.protobuf import MAX_BYTES, Walker
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

# Field numbers of onnx.proto (ModelProto, GraphProto, TensorProto, ValueInfoProto, TypeProto, ...).
_GRAPH, _INITIALIZER, _INPUT, _TENSOR_NAME = 7, 5, 11, 8
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1


def input_shape(path: Path) -> tuple[int | None, ...]:
    """Return the shape of the first input that is not a weight; None where it is not fixed.

    Raises:
        InputError: not an ONNX file, or one without an image input.
    """
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size < MAX_BYTES:
            raise InputError(f"{path}: has {size} bytes; an ONNX file has 1 to {MAX_BYTES - 1}")
        walker = Walker(file, path)
        graphs = list(walker.inside(0, size, _GRAPH))
        if not graphs:
            raise walker.damaged()
        # Lists: an inner walk must not move the file while an outer one is under way.
        tensors = list(walker.inside(*graphs[0], _INITIALIZER))
        weights = {walker.name(tensor, _TENSOR_NAME) for tensor in tensors}
        for value in list(walker.inside(*graphs[0], _INPUT)):
            if walker.name(value, _VALUE_NAME) not in weights:
                return _shape(walker, value)
    raise InputError(f"{path}: has no input")


def _shape(walker: Walker, value: tuple[int, int]) -> tuple[int | None, ...]:
    shape: list[int | None] = []
    for kind in list(walker.inside(*value, _VALUE_TYPE)):
        for tensor in list(walker.inside(*kind, _TENSOR_TYPE)):
            for dims in list(walker.inside(*tensor, _SHAPE)):
                for start, end in list(walker.inside(*dims, _DIM)):
                    walker.file.seek(start)
                    numbers = [
                        v for n, v, stop in walker.fields(end) if n == _DIM_VALUE and stop < 0
                    ]
                    shape.append(numbers[0] if numbers else None)
    return tuple(shape)


def spec(target: str) -> ModelSpec:
    """Describe the file without torch or onnx: a fixed input size is the only legal one.

    Raises:
        InputError: not an ONNX file whose input is (batch, 3, height, width), or one whose data
            files cannot be trusted.
    """
    path = regular_file(target, "an ONNX file")
    side = image_side(target, input_shape(path))
    data_files(path)
    return ModelSpec(
        name=f"onnx:{target}",
        summary="an ONNX file" if side is not None else "an ONNX file of any input size",
        source=target,
        confidence="confirmed",
        build=lambda options: build(target, options),
        family="onnx",
        input=side or 224,
        stride=side or 1,
        min_input=side or 1,
    )


def build(target: str, _options: Options) -> nn.Module:
    """Say that there is nothing to build.

    Raises:
        Unsupported: always; backends read the file themselves.
    """
    raise Unsupported(f"onnx:{target} has no torch module; backends that read ONNX run it")


SOURCES.add(
    SourceSpec(
        name="onnx", summary="an ONNX file by its path; backends read it as it is", spec=spec,
        build=build, artifact="onnx",
        files=lambda target, _options: (Path(target), *data_files(Path(target))),
    )
)  # fmt: skip
