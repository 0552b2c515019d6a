"""Helpers for files: what may be opened, atomic writing, content hashes.

The rule for links and for what is no file, here and nowhere else:

- **An output is replaced, never followed.** A link of its name is replaced by the file. No folder
  of its path below the working directory may be a link, because an untrusted tree may bring one
  that leads out of it; folders above are the user's own. A device, pipe, socket or folder of the
  output's name is refused. A log that grows is opened only if it is a regular file and no link.
- **A file inside a stored run** is a regular file and no link, nor is the folder of a run that is
  continued or repaired.
- **An input that the user names** (suite, model, weights, cluster file) may be a link, but it leads
  to a regular file. Nothing is waited for: a named pipe is refused, not read.
- **A file that an input names in turn** (external data of an ONNX file) lies in the input's folder,
  is a regular file, and no link on its way leads out of that folder.

A process that changes folders meanwhile is not held off: it runs as the user already.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cspbench.core.text import inert
from cspbench.errors import InputError

#: Where runs lie unless the caller says otherwise, below the working directory.
RESULTS = Path("results")


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces ``path`` when the block succeeds.

    Readers see the old file or the new one, never half of one. The folder must exist. A link of the
    name is replaced, not followed.

    Args:
        path: the file to write.
        sync: put the new file and its name on disk before this returns.
        shared: other processes may write the same file now, so the temporary name is unique.
            Without it a killed process leaves ``NAME.new``, which the next one overwrites.

    Raises:
        OSError: the file cannot be written, is no file, or a folder on its way is a link below
            the working directory; ``path`` is unchanged.
    """
    _check_output(path)
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
    with replacing(path, sync=sync, shared=shared) as temporary, temporary.open("xb") as file:
        file.write(content)


def write_output(path: Path, content: str | bytes, *, folder: bool = False) -> None:
    """Write an output of a command to the file that the user named.

    Args:
        path: the file, which is replaced.
        content: all of it; text is made inert.
        folder: make its folder first.

    Raises:
        InputError: it cannot be written.
    """
    if isinstance(content, str):
        content = inert(content).encode()
    try:
        if folder:
            make_folder(path.parent)
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it exists.

    Raises:
        OSError: it cannot be made, or one on its way is a link below the working directory.
    """
    _refuse_links(path)
    path.mkdir(parents=True, exist_ok=True)


def new_folder(out: Path, name: str) -> Path:
    """Make the folder ``out/name``, or ``name-2`` and so on if it exists already.

    Raises:
        OSError: it cannot be made, or one on its way is a link below the working directory.
    """
    make_folder(out)
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


def _check_output(path: Path) -> None:
    """Refuse to replace what is no file, and folders that lead elsewhere."""
    _refuse_links(path.parent)
    try:
        mode = path.lstat().st_mode
    except OSError:  # nothing is there; or writing fails and says why
        return
    # /dev/stdout and /dev/fd/63 are links: replacing them would break the system for all.
    system = stat.S_ISLNK(mode) and path.parent.resolve().parts[1:2] in (("dev",), ("proc",))
    if system or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _refuse_links(folder: Path) -> None:
    here = Path.cwd()
    for one in (folder, *folder.parents):
        # Lexically below: resolving would follow the very link that is looked for.
        place = Path(os.path.abspath(one))
        if place != here and place.is_relative_to(here) and one.is_symlink():
            leads = f"the folder {one} is a link: name the folder to which it leads, if you mean it"
            raise OSError(errno.ELOOP, leads, str(folder))


def refuse_link(folder: Path) -> None:
    """Refuse a stored run that is a link: an untrusted folder would choose what is overwritten.

    Raises:
        OSError: it is a link.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder} is a link: name the folder to which it leads")


def no_follow(path: str, flags: int) -> int:
    """Opener for ``open``: a regular file. It follows no link and waits for no pipe.

    Raises:
        OSError: it is a link or no regular file, or cannot be opened.
    """
    try:
        return regular(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, not a regular file", path) from None
        raise


def regular(path: str, flags: int) -> int:
    """Opener for ``open``: a regular file, or a link to one. It waits for no pipe.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def open_input(path: Path | str) -> BinaryIO:
    """Open a file that the user named.

    Raises:
        OSError: it is no regular file, or cannot be opened.
        ValueError: the text cannot be a path.
    """
    return open(path, "rb", opener=regular)


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
        with open_input(path) as file:
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
