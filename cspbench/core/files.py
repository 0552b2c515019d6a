"""Files: written as a whole or not at all, known by their content, kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

#: Where runs lie unless the caller says otherwise, below the working directory.
RESULTS = Path("results")


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Give a file beside ``path`` to fill; it takes the place of ``path`` when the block ends well.

    Readers see the old file or the new one, never half of one. Its folder must exist.

    Args:
        path: the file to write.
        sync: the new file and its name are on disk when this returns, whatever happens next.
        shared: other processes may write the same file now, so the neighbour's name is unique.
            Without it a killed process leaves ``NAME.new``, which the next one overwrites.

    Raises:
        OSError: it cannot be written; ``path`` is as it was.
    """
    # The suffix stays the last one where files are exported: exporters look at it.
    own = f"{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}"
    temporary = path.with_name(own if shared else f"{path.name}.new")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if sync:
        sync_directory(path.parent)


def write_whole(path: Path, content: bytes, *, sync: bool = False, shared: bool = False) -> None:
    """Put ``content`` in place of a file (see :func:`replacing`)."""
    with replacing(path, sync=sync, shared=shared) as temporary:
        temporary.write_bytes(content)


def sync_directory(path: Path) -> None:
    """Put names on disk: without this a power cut can take a new file although its content is."""
    with contextlib.suppress(OSError):  # not every file system knows how
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; empty if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def sources_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """``$CSPBENCH_CACHE``, or the user's cache folder for cspbench."""
    named = os.environ.get("CSPBENCH_CACHE")
    if named:
        return Path(named)
    # Here, because a worker in another environment needs no more than its backend.
    import platformdirs

    return Path(platformdirs.user_cache_dir("cspbench"))
