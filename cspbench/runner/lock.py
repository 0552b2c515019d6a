"""One timing lock a machine: two runs that measure at once would measure each other.

An operating-system lock on a file in the temporary directory; the kernel releases it when its
holder ends, however that happens. Beside it lies a note that says who holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cspbench.errors import InputError

_NAME = "cspbench-timing"


def lock_folder() -> Path:
    """``$CSPBENCH_LOCK_DIR``, or the machine's temporary directory, shared by all users."""
    return Path(os.environ.get("CSPBENCH_LOCK_DIR") or tempfile.gettempdir())


@contextlib.contextmanager
def timing_lock(
    what: str, *, wait: bool = True, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the machine's timing lock.

    Args:
        what: what is measured, for others to read.
        wait: wait for another holder, else refuse.
        waiting: told once, with a sentence, when there is someone to wait for.

    Raises:
        InputError: another run holds it and ``wait`` is False, or the lock cannot be made.
    """
    from filelock import FileLock, Timeout

    folder = lock_folder()
    lock = FileLock(folder / f"{_NAME}.lock", mode=0o666, thread_local=False)
    note = folder / f"{_NAME}.json"
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = f"another run measures on this machine ({_holder(note)})"
            if not wait:
                raise InputError(f"{holder}; wait for it, or leave out --no-wait") from None
            if waiting is not None:
                waiting(f"{holder}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise InputError(f"cannot lock {folder}: {error.strerror}") from error
    try:
        with contextlib.suppress(OSError):  # the note is a courtesy
            note.write_text(json.dumps({"pid": os.getpid(), "what": what}))
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
        lock.release()


def _holder(note: Path) -> str:
    try:
        found = json.loads(note.read_text())
        return f"process {int(found['pid'])}, {str(found['what'])[:200]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
