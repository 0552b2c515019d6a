"""Artifacts travel once: a hash of the content names them, and the board verifies and caches them.

The controller offers files by hash and sends those that a board lacks, in chunks that the
scheduler can carry. A board refuses a file whose hash differs from the announced one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cspbench.artifacts.spec import ARTIFACTS, REFERENCE_SUFFIX
from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import file_digest, no_follow, open_input
from cspbench.errors import CspbenchError

#: How much of a file one message carries.
CHUNK_BYTES = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class WrongContent(CspbenchError):
    """The content of a file or request differs from what was announced."""


@dataclass(frozen=True)
class Item:
    """A file by its content: SHA-256 in hexadecimal, size in bytes, suffix and stem.

    A model and its reference outputs share a stem, so that they stand beside each other on the
    board as on the controller.
    """

    digest: str
    size: int
    suffix: str
    stem: str

    def checked(self) -> Item:
        """Return the item if its path lies within the cache.

        Raises:
            WrongContent: digest, stem, suffix or size is malformed.
        """
        names_ok = _DIGEST.fullmatch(self.digest) and _DIGEST.fullmatch(self.stem)
        if not names_ok or self.suffix not in suffixes() or not 0 <= self.size < 2**40:
            raise WrongContent(f"{self!r} does not name an artifact")
        return self


def suffixes() -> set[str]:
    """Suffixes of files that a board accepts; no other name of a request becomes a path."""
    return {kind.suffix for kind in ARTIFACTS} | {REFERENCE_SUFFIX}


def pair(artifact: Path, reference: Path) -> tuple[Item, Item]:
    """Describe the two files of a case by their content.

    Raises:
        WrongContent: one of them cannot be read.
    """
    digests = [file_digest(path) for path in (artifact, reference)]
    if not all(digests):
        raise WrongContent(f"{artifact} or {reference} cannot be read")
    stem = hashlib.sha256("".join(digests).encode()).hexdigest()
    return tuple(  # type: ignore[return-value]
        Item(digest, path.stat().st_size, path.suffix.removeprefix("."), stem)
        for digest, path in zip(digests, (artifact, reference), strict=True)
    )


def chunks(path: Path, size: int = CHUNK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each part of a file; one empty part of an empty file."""
    offset = 0
    with open_input(path) as file:
        while chunk := file.read(size):
            yield offset, chunk
            offset += len(chunk)
    if offset == 0:
        yield 0, b""


class Store:
    """A board's cache of artifacts.

    Args:
        folder: its place; by default ``fleet`` in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder("fleet")
        self._verified: dict[Path, tuple[str, int, int]] = {}  # digest, size, time of change
        self._lock = threading.Lock()

    def path(self, item: Item) -> Path:
        """The path of the file, whether it exists or not."""
        return self._folder / f"{item.checked().stem}.{item.suffix}"

    def holds(self, item: Item) -> bool:
        """True if the store has the file with that content; a file of other content is removed.

        The file is hashed once; it is hashed again if its size or time of change differs.
        """
        path = self.path(item)
        try:
            facts = path.stat()
        except OSError:
            return False
        version = (item.digest, facts.st_size, facts.st_mtime_ns)
        with self._lock:
            if self._verified.get(path) == version:
                return True
            if file_digest(path) == item.digest:
                self._verified[path] = version
                return True
            path.unlink(missing_ok=True)
            return False

    def put(self, item: Item, offset: int, data: bytes) -> bool:
        """Write a part; return True if the file is complete.

        Two controllers, or two boards that share a cache, may write one file at a time: its content
        is the same for all, so no writer begins it anew, and a later one finds it complete.

        Raises:
            WrongContent: earlier parts are missing, or the whole file has another hash.
        """
        if self.holds(item):
            return True
        path = self.path(item)
        part = path.with_name(f"{path.name}.part")
        with self._lock:
            make_cache_folder(self._folder)
            with open(part, "r+b", opener=_made) as file:
                size = file.seek(0, os.SEEK_END)
                if offset > size or offset + len(data) > item.size:
                    raise WrongContent(
                        f"a part of {item.digest[:12]} at {offset} does not follow {size} bytes"
                    )
                file.seek(offset)
                file.write(data)
            if offset + len(data) < item.size:
                return False
            digest = file_digest(part)
            if digest and digest != item.digest:
                part.unlink()
                raise WrongContent(
                    f"an artifact arrived with hash {digest[:12]}..., not {item.digest[:12]}..., "
                    "and was refused"
                )
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                part.replace(path)
        return self.holds(item)


def _made(path: str, flags: int) -> int:
    """Opener of a file that is made where there is none."""
    return no_follow(path, flags | os.O_CREAT)
