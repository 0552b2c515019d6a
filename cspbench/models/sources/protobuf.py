"""Fields of protobuf messages, read from a file without its package and without what is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cspbench.errors import InputError

#: Protobuf's own bound of a message.
MAX_BYTES = 2**31
#: Bounds of what is kept in memory: the length of a text, and how many fields are seen.
MAX_TEXT = 1 << 12
MAX_FIELDS = 1_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Walker:
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
            return self.text(start, end)
        return b""

    def text(self, start: int, end: int) -> bytes:
        """Return a short text that lies at (start, end)."""
        if end - start > MAX_TEXT:
            raise self.damaged()
        self.file.seek(start)
        return self.file.read(end - start)
