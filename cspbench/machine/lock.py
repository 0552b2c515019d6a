"""One timing lock a machine, because two runs at the same time would disturb each other.

It is an operating-system lock on a file in the temporary directory. The kernel releases it when its
holder ends in any way. The file belongs to the user of the first run, all users may lock it, and a
note in it names the measuring process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cspbench.core.text import printable
from cspbench.errors import InputError

_NAME = "cspbench-timing.lock"
_NOTE_BYTES = 1000


def lock_folder() -> Path:
    """``$CSPBENCH_LOCK_DIR``, or the machine's temporary directory, shared by all users."""
    return Path(os.environ.get("CSPBENCH_LOCK_DIR") or tempfile.gettempdir())


@contextlib.contextmanager
def timing_lock(
    what: str, *, wait: bool = True, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the machine's timing lock.

    Args:
        what: names the measurement in the messages of other runs.
        wait: whether to wait for another holder or to raise.
        waiting: called once with a sentence if another run holds the lock.

    Raises:
        InputError: another run holds it and ``wait`` is False, or the lock cannot be made.
    """
    path = lock_folder() / _NAME
    try:
        file = _acquire(path, wait=wait, waiting=waiting)
    except OSError as error:
        raise InputError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _leave_note(file, {"pid": os.getpid(), "what": what[:200]})
        yield
    finally:
        os.close(file)  # which releases it


def _acquire(path: Path, *, wait: bool, waiting: Callable[[str], None] | None) -> int:
    while True:
        file = _open(path)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = f"another run measures on this machine ({_holder(file)})"
                if not wait:
                    raise InputError(f"{holder}; wait for it, or leave out --no-wait") from None
                if waiting is not None:
                    waiting(f"{holder}; waiting for it")
                    waiting = None
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_there(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the file was deleted meanwhile: other runs lock a new one


def _open(path: Path) -> int:
    """Open the lock file; never with O_CREAT where it exists.

    In a sticky directory the kernel refuses O_CREAT on another user's file (fs.protected_regular).
    No link is followed and no named pipe is waited for: others may write in the directory too.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            file = os.open(path, os.O_RDWR | flags)
        except PermissionError:  # its owner forbids writing: locking needs only reading
            file = os.open(path, os.O_RDONLY | flags)
        except FileNotFoundError:
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
            except FileExistsError:
                continue
            os.fchmod(file, 0o666)  # whatever the umask: other users lock it too
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise InputError(f"cannot lock {path}: it is no regular file; remove it")
        return file


def _is_there(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _leave_note(file: int, note: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the lock works without the note
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(note).encode()[:_NOTE_BYTES], 0)


def _holder(file: int) -> str:
    """Describe the holder by the note in the file, which any user may have written."""
    try:
        note = json.loads(os.pread(file, _NOTE_BYTES, 0))
        return f"process {int(note['pid'])}, {printable(str(note['what']))[:200]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unknown"
