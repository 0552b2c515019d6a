"""ONNX files: ``onnx:path.onnx``. The file itself is the artifact and ONNX Runtime the reference.

The input's shape is read by walking the file's protobuf fields and seeking over everything else, so
that planning costs neither the memory of the weights nor an import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cspbench.core.options import Options
from cspbench.errors import InputError, Unsupported
from cspbench.models.sources.files import regular_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

#: Protobuf's own bound of a message.
MAX_BYTES = 2**31
#: Bounds of what is kept in memory: the length of a tensor's name, and how many fields are seen.
MAX_NAME = 1 << 12
MAX_FIELDS = 200_000
#: Largest side of an input.
MAX_SIDE = 1 << 14
# Field numbers of onnx.proto (ModelProto, GraphProto, TensorProto, ValueInfoProto, TypeProto, ...).
_GRAPH, _INITIALIZER, _INPUT, _TENSOR_NAME = 7, 5, 11, 8
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Walker:
    """Fields of protobuf messages in a file, without reading what is skipped."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.left = MAX_FIELDS

    def damaged(self) -> InputError:
        return InputError(f"{self.path}: is not an ONNX file, or it is damaged")

    def varint(self) -> int:
        """Read a number of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.file.read(1)
            if not byte:
                raise self.damaged()
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise self.damaged()

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (field number, value or start, end) up to ``end``; a number has end -1."""
        while self.file.tell() < end:
            self.left -= 1
            if self.left < 0:
                raise InputError(f"{self.path}: has more than {MAX_FIELDS} fields")
            key = self.varint()
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                yield number, self.varint(), -1
                continue
            sizes = {_FIXED64: 8, _FIXED32: 4}
            size = self.varint() if wire == _BYTES else sizes.get(wire, -1)
            start = self.file.tell()
            if size < 0 or start + size > end:
                raise self.damaged()
            yield number, start, start + size
            self.file.seek(start + size)

    def inside(self, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of each field ``wanted`` of the message at (start, end)."""
        self.file.seek(start)
        for number, value, stop in self.fields(end):
            if number == wanted and stop >= 0:
                yield value, stop

    def name(self, message: tuple[int, int], wanted: int) -> bytes:
        """Return the short text field ``wanted`` of a message; empty without one."""
        for start, end in list(self.inside(*message, wanted)):
            if end - start > MAX_NAME:
                raise self.damaged()
            self.file.seek(start)
            return self.file.read(end - start)
        return b""


def input_shape(path: Path) -> tuple[int | None, ...]:
    """Return the shape of the first input that is no weight; None where it is not fixed.

    Raises:
        InputError: not an ONNX file, or one without an image input.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size < MAX_BYTES:
            raise InputError(f"{path}: has {size} bytes; an ONNX file has 1 to {MAX_BYTES - 1}")
        walker = _Walker(file, path)
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


def _shape(walker: _Walker, value: tuple[int, int]) -> tuple[int | None, ...]:
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
        InputError: not an ONNX file whose input is (batch, 3, height, width).
    """
    shape = input_shape(regular_file(target, "an ONNX file"))
    if len(shape) != 4 or shape[1] not in (3, None):
        raise InputError(
            f"{target}: its input is {shape}; only (batch, 3, height, width) is measured"
        )
    height, width = shape[2:]
    if height != width:
        raise InputError(f"{target}: its input of {height}x{width} is not square")
    if height is not None and not 1 <= height <= MAX_SIDE:
        raise InputError(f"{target}: its input of {height}x{width} is not 1 to {MAX_SIDE} a side")
    fixed = height is not None
    return ModelSpec(
        name=f"onnx:{target}",
        summary="an ONNX file" if fixed else "an ONNX file of any input size",
        source=target,
        confidence="confirmed",
        build=lambda options: build(target, options),
        family="onnx",
        input=height or 224,
        stride=height or 1,
        min_input=height or 1,
    )


def build(target: str, _options: Options) -> nn.Module:
    """Say that there is nothing to build.

    Raises:
        Unsupported: always; backends read the file themselves.
    """
    raise Unsupported(f"onnx:{target} has no torch module; backends that read ONNX run it")


SOURCES.add(
    SourceSpec(
        name="onnx",
        summary="an ONNX file by its path; backends read it as it is",
        spec=spec,
        build=build,
        files=lambda target, _options: (Path(target),),
        artifact="onnx",
    )
)
