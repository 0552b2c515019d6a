"""Helpers for files: atomic writing and content hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

#: Where runs lie unless the caller says otherwise, below the working directory.
RESULTS = Path("results")


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces ``path`` when the block succeeds.

    Readers see the old file or the new one, never half of one. The folder must exist.

    Args:
        path: the file to write.
        sync: put the new file and its name on disk before this returns.
        shared: other processes may write the same file now, so the temporary name is unique.
            Without it a killed process leaves ``NAME.new``, which the next one overwrites.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
    """
    # The suffix of a unique name stays the last one, because exporters depend on it.
    own = f"{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}"
    temporary = path.with_name(own if shared else f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # an untrusted folder may hold a link of this name
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
    """Replace a file by ``content`` (see :func:`replacing`)."""
    with replacing(path, sync=sync, shared=shared) as temporary:
        temporary.write_bytes(content)


def new_folder(out: Path, name: str) -> Path:
    """Make the folder ``out/name``, or ``name-2`` and so on if it exists already.

    Raises:
        OSError: it cannot be made.
    """
    out.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = out / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def sync_directory(path: Path) -> None:
    """Put the names of a folder on disk: a power cut could remove a new file otherwise."""
    with contextlib.suppress(OSError):  # some file systems cannot
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_follow(path: str, flags: int) -> int:
    """Opener for ``open``: a regular file. It follows no link and waits for no pipe.

    Raises:
        OSError: it is a link or no regular file, or cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def file_version(path: Path) -> tuple[int, ...]:
    """What changes whenever a file does; empty if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


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
