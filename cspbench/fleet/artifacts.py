"""Artifacts travel once: named by the hash of their content, verified, and kept in the cache.

The controller offers files by hash and sends the ones that a board lacks, in chunks that the
scheduler can carry. A board takes nothing that does not have the hash that was promised.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cspbench.artifacts.spec import ARTIFACTS, REFERENCE_SUFFIX
from cspbench.core.files import cache_folder, file_digest
from cspbench.errors import CspbenchError

#: How much of a file one message carries.
CHUNK_BYTES = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class WrongContent(CspbenchError):
    """What arrived is not what was promised; one sentence."""


@dataclass(frozen=True)
class Item:
    """A file by its content: SHA-256 in hexadecimal, size, suffix; ``stem`` names its pair.

    A model and its reference outputs share a stem, so that they lie beside each other as they do
    where they were made.
    """

    digest: str
    size: int
    suffix: str
    stem: str

    def checked(self) -> Item:
        """Return itself if nothing in it could name a place outside the cache.

        Raises:
            WrongContent: it could.
        """
        names_ok = _DIGEST.fullmatch(self.digest) and _DIGEST.fullmatch(self.stem)
        if not names_ok or self.suffix not in suffixes() or not 0 <= self.size < 2**40:
            raise WrongContent(f"{self!r} does not name an artifact")
        return self


def suffixes() -> set[str]:
    """Suffixes of files that a board takes; a name of a request never becomes a path."""
    return {kind.suffix for kind in ARTIFACTS} | {REFERENCE_SUFFIX}


def pair(artifact: Path, reference: Path) -> tuple[Item, Item]:
    """The two files of a case by their content.

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
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield offset, chunk
            offset += len(chunk)
    if offset == 0:
        yield 0, b""


class Store:
    """A board's cache of artifacts.

    Args:
        folder: where it lies; ``fleet`` in the user's cache folder by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder() / "fleet"
        self._verified: dict[Path, tuple[str, int, int]] = {}  # digest, size, time of change
        self._lock = threading.Lock()

    def path(self, item: Item) -> Path:
        """Where the file lies, or would lie."""
        return self._folder / f"{item.checked().stem}.{item.suffix}"

    def holds(self, item: Item) -> bool:
        """True if the file is here with that content; a file of other content is removed.

        It is read once; after that its size and time of change must stay the same.
        """
        path = self.path(item)
        try:
            facts = path.stat()
        except OSError:
            return False
        seen = (item.digest, facts.st_size, facts.st_mtime_ns)
        with self._lock:
            if self._verified.get(path) == seen:
                return True
            if file_digest(path) == item.digest:
                self._verified[path] = seen
                return True
            path.unlink(missing_ok=True)
            return False

    def put(self, item: Item, offset: int, data: bytes) -> bool:
        """Add a part; True if the file is complete.

        Raises:
            WrongContent: parts are missing before it, or the whole has another hash.
        """
        path = self.path(item)
        part = path.with_name(f"{path.name}.part")
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            if offset == 0:
                part.write_bytes(b"")
            size = part.stat().st_size if part.exists() else 0
            if size != offset or offset + len(data) > item.size:
                raise WrongContent(
                    f"a part of {item.digest[:12]} at {offset} does not follow {size} bytes"
                )
            with part.open("ab") as file:
                file.write(data)
            if offset + len(data) < item.size:
                return False
            found = file_digest(part)
            if found != item.digest:
                part.unlink()
                raise WrongContent(
                    f"an artifact arrived with hash {found[:12]}..., not {item.digest[:12]}..., "
                    "and was refused"
                )
            part.replace(path)
        return self.holds(item)
