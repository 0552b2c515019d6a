"""ONNX files: ``onnx:path.onnx``. The file itself is the artifact and ONNX Runtime the reference.

The inputs are read by walking the file's protobuf fields and seeking over everything else, so that
planning costs neither the memory of the weights nor an import.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.files import file_version, open_input
from cspbench.core.options import Options
from cspbench.errors import InputError, Unsupported
from cspbench.models.input_file import INPUTS, input_file
from cspbench.models.inputs import Signature, StatedInput, signature
from cspbench.models.sources.files import regular_file
from cspbench.models.sources.onnx_data import data_files
from cspbench.models.sources.protobuf import MAX_BYTES, Walker
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

# Field numbers of onnx.proto (ModelProto, GraphProto, TensorProto, ValueInfoProto, TypeProto, ...).
_GRAPH, _INITIALIZER, _INPUT, _TENSOR_NAME = 7, 5, 11, 8
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _ELEMENT, _SHAPE, _DIM = 1, 2, 1, 1, 2, 1
_DIM_VALUE, _DIM_NAME = 1, 2
#: TensorProto.DataType, by numpy's names where numpy has the type.
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
}  # fmt: skip
#: A negative size, which some exporters write for an open one, as an unsigned number of 64 bits.
_NEGATIVE = 1 << 63


def stated_inputs(path: Path) -> tuple[StatedInput, ...]:
    """The inputs that are no weights, in order, as the file states them.

    Raises:
        InputError: not an ONNX file, or an input of unknown rank.
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
        values = list(walker.inside(*graphs[0], _INPUT))
        named = [(walker.name(value, _VALUE_NAME), value) for value in values]
        return tuple(_stated(walker, *one) for one in named if one[0] not in weights)


def _stated(walker: Walker, name: bytes, value: tuple[int, int]) -> StatedInput:
    text = name.decode(errors="replace")
    for kind in list(walker.inside(*value, _VALUE_TYPE)):
        for tensor in list(walker.inside(*kind, _TENSOR_TYPE)):
            element = _number(walker, tensor, _ELEMENT)
            dtype = _TYPES.get(element or 0, f"number {element}")
            shapes = list(walker.inside(*tensor, _SHAPE))
            if not shapes and dtype != "string":
                raise InputError(f"{walker.path}: does not state how many axes {text!r} has")
            dims = [dim for shape in shapes for dim in walker.inside(*shape, _DIM)]
            return StatedInput(text, tuple(_axis(walker, dim) for dim in dims), dtype)
    return StatedInput(text, (), "of no tensor")


def _axis(walker: Walker, dim: tuple[int, int]) -> int | str | None:
    """The size of an axis, its name if it is open, or None."""
    number = _number(walker, dim, _DIM_VALUE)
    if number is not None and 0 < number < _NEGATIVE:
        return number
    return walker.name(dim, _DIM_NAME).decode(errors="replace") or None


def _number(walker: Walker, message: tuple[int, int], wanted: int) -> int | None:
    walker.file.seek(message[0])
    numbers = [v for n, v, stop in walker.fields(message[1]) if n == wanted and stop < 0]
    return numbers[0] if numbers else None


@functools.lru_cache(maxsize=64)
def _signature(path: Path, *_version: int) -> Signature:
    """A plan asks for it with every case."""
    return signature(path, stated_inputs(path))


def spec(target: str) -> ModelSpec:
    """Describe the file without torch or onnx: sizes that it states are the only legal ones.

    Raises:
        InputError: not an ONNX file, one whose inputs cannot be made, or one whose data files
            cannot be trusted.
    """
    path = regular_file(target, "an ONNX file")
    read = _signature(path, *file_version(path))
    data_files(path)
    return ModelSpec(
        name=f"onnx:{target}",
        summary="an ONNX file" if read.size is not None else "an ONNX file of any input size",
        source=target,
        confidence="own",
        build=lambda options: build(target, options),
        family="onnx",
        input=read.size,
        fixed=read.fixed,
        batch=read.batch,
        inputs=read.inputs,
        stride=1,
        min_input=1,
        axes=(INPUTS,),
    )


def build(target: str, _options: Options) -> nn.Module:
    """Say that there is nothing to build.

    Raises:
        Unsupported: always; backends read the file themselves.
    """
    raise Unsupported(f"onnx:{target} has no torch module; backends that read ONNX run it")


def _files(target: str, options: Options) -> tuple[Path, ...]:
    """The file, its data files, and that of its inputs."""
    inputs = input_file(options)
    return (Path(target), *data_files(Path(target)), *([] if inputs is None else [inputs]))


SOURCES.add(
    SourceSpec(
        name="onnx", summary="an ONNX file by its path; backends read it as it is", spec=spec,
        build=build, axes=(INPUTS,), artifact="onnx", endings=(".onnx",), files=_files,
    )
)  # fmt: skip
