"""Data files of an ONNX file: tensors that lie outside of it ("external data").

The file names them, so an untrusted one could name any file of the machine. Each is checked here,
whatever the installed onnx checks: it is a regular file below the folder of the ONNX file, no link
leads out of that folder, and the tensor lies within it. All of them belong to the identity of the
model.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from cspbench.core.files import file_version, no_follow
from cspbench.errors import InputError, Unsupported
from cspbench.models.sources.protobuf import MAX_BYTES, Walker

if TYPE_CHECKING:
    import onnx

#: Field numbers of onnx.proto by which a message leads to tensors, and the messages there.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor lie; ``length`` None means up to the end of the file."""

    location: str
    offset: int = 0
    length: int | None = None


def data_files(path: Path) -> tuple[Path, ...]:
    """The data files of an ONNX file, checked, in the order in which it names them.

    A file that does not exist names none.

    Raises:
        InputError: the file is damaged, or a data file cannot be trusted.
    """
    if not path.is_file():
        return ()
    files: dict[Path, None] = {}
    for place in _places(path, *file_version(path)):
        file, size = _checked(path, place.location)
        _span(path, place, size)
        files[file] = None
    return tuple(files)


def embed(model: onnx.ModelProto, path: Path) -> None:
    """Read the data files of ``model``, which was loaded from ``path`` without them, into it.

    Raises:
        InputError: a data file cannot be trusted.
        Unsupported: the model is larger than a single ONNX file can be.
    """
    import onnx

    known, total = set(data_files(path)), path.stat().st_size
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = _place(path, [(entry.key, entry.value) for entry in tensor.external_data])
        file, size = _checked(path, place.location)
        assert file in known, "what is read is part of the model's identity"
        start, end = _span(path, place, size)
        total += end - start
        if total >= MAX_BYTES:
            raise Unsupported(f"{path}: has more than {MAX_BYTES - 1} bytes with its data files")
        with open(file, "rb", opener=no_follow) as data:
            data.seek(start)
            tensor.raw_data = data.read(end - start)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor of a message, wherever it lies."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


@functools.lru_cache(maxsize=64)
def _places(path: Path, *_version: int) -> tuple[Place, ...]:
    """Where the file says that tensors lie outside of it; a plan asks for it with every case."""
    places: dict[Place, None] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size < MAX_BYTES:
            raise InputError(f"{path}: has {size} bytes; an ONNX file has 1 to {MAX_BYTES - 1}")
        walker = Walker(file, path)
        left = [("model", 0, size)]
        while left:
            kind, start, end = left.pop()
            inside = _INSIDE[kind]
            file.seek(start)
            found = [
                (inside[number], at, stop)
                for number, at, stop in walker.fields(end)
                if number in inside and stop >= 0
            ]
            if kind != "tensor":
                left += reversed(found)
            elif found:
                entries = [_entry(walker, *one[1:]) for one in found]
                places[_place(path, entries)] = None
    return tuple(places)


def _entry(walker: Walker, start: int, end: int) -> tuple[str, str]:
    """A key of a tensor's ``external_data`` and its value."""
    texts = (walker.name((start, end), number) for number in (_KEY, _VALUE))
    try:
        key, value = (text.decode() for text in texts)
    except UnicodeDecodeError:
        raise walker.damaged() from None
    return key, value


def _place(path: Path, entries: list[tuple[str, str]]) -> Place:
    """The place that entries of ``external_data`` state.

    Raises:
        InputError: they state none, or one of them twice.
    """
    stated = dict(entries)
    numbers = [stated.get(key) for key in ("offset", "length")]
    plain = all(n is None or (n.isascii() and n.isdigit() and len(n) < 20) for n in numbers)
    if len(stated) < len(entries) or not stated.get("location") or not plain:
        raise InputError(f"{path}: is damaged: a tensor's place in its data file is not clear")
    offset, length = (None if number is None else int(number) for number in numbers)
    return Place(stated["location"], offset or 0, length)


def _checked(path: Path, location: str) -> tuple[Path, int]:
    """The data file ``location`` and its size.

    Raises:
        InputError: it is not a regular file of one name below the folder of ``path``.
    """

    def refused(why: str) -> InputError:
        return InputError(f"{path}: its data file {location!r} {why}")

    windows = PureWindowsPath(location)
    absolute = location.startswith("/") or windows.drive or windows.root
    if absolute or "\0" in location or ".." in (*PurePosixPath(location).parts, *windows.parts):
        raise refused("lies outside of its folder: only files beside or below the model are read")
    folder = path.parent.resolve()
    try:
        file = (folder / location).resolve(strict=True)
        facts = file.lstat()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refused(f"cannot be read ({reason}): put it beside the model") from None
    if not file.is_relative_to(folder):
        raise refused("is a link that leads out of its folder: copy the file there")
    if not stat.S_ISREG(facts.st_mode):
        raise refused("is not a regular file")
    if facts.st_nlink > 1:
        raise refused("has another name somewhere (a hard link): copy the file there")
    return file, facts.st_size


def _span(path: Path, place: Place, size: int) -> tuple[int, int]:
    """First byte of a tensor in its data file, and the one behind its last.

    Raises:
        InputError: they do not lie within the file.
    """
    end = size if place.length is None else place.offset + place.length
    if not place.offset <= end <= size:
        raise InputError(
            f"{path}: a tensor takes the bytes {place.offset} to {end} of its data file "
            f"{place.location!r}, which has {size}"
        )
    return place.offset, end
