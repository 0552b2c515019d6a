"""One timing lock a machine, because two runs at the same time would disturb each other.

It is an operating-system lock on a file in the temporary directory. The kernel releases it when its
holder ends in any way. The file belongs to the user of the first run, all users may lock it, and a
note in it names the measuring process. Any user can hold it for ever, so every wait has a bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cspbench.core.text import printable
from cspbench.errors import BusyError, InputError

_NAME = "cspbench-timing.lock"
#: Environment variable with the bound of a wait in seconds.
SECONDS_VARIABLE = "CSPBENCH_LOCK_SECONDS"
#: Its default: longer than any sensible run, shorter than a forgotten process.
MAX_WAIT_SECONDS = 24 * 3600.0
#: A waiting run wakes seldom, because another one measures.
_POLL_SECONDS = 0.5
_LOCKS = Path("/proc/locks")
_NOTE_BYTES = 1000


def lock_folder() -> Path:
    """``$CSPBENCH_LOCK_DIR``, or the machine's temporary directory, shared by all users."""
    return Path(os.environ.get("CSPBENCH_LOCK_DIR") or tempfile.gettempdir())


def max_wait_seconds() -> float:
    """``$CSPBENCH_LOCK_SECONDS``, or a day.

    Raises:
        InputError: it is no number of seconds.
    """
    text = os.environ.get(SECONDS_VARIABLE)
    if not text:
        return MAX_WAIT_SECONDS
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) <= 10**6:
            return seconds
    raise InputError(
        f"{SECONDS_VARIABLE}={text[:80]!r} is not a number of seconds from 0 to 1000000"
    )


@contextlib.contextmanager
def timing_lock(
    what: str,
    *,
    wait: bool = True,
    waiting: Callable[[str], None] | None = None,
    seconds: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the machine's timing lock.

    Args:
        what: names the measurement in the messages of other runs.
        wait: whether to wait for another holder or to raise.
        waiting: called with a sentence if another run holds the lock, and again with each new
            holder.
        seconds: bound of the wait; by default `max_wait_seconds`.
        sleep: waits some seconds; what it raises ends the wait.

    Raises:
        InputError: another run holds it and ``wait`` is False, or the lock cannot be made.
        BusyError: other runs held it until the bound.
    """
    path = lock_folder() / _NAME
    bound = max_wait_seconds() if seconds is None else seconds
    try:
        file = _acquire(path, bound if wait else None, waiting, sleep)
    except OSError as error:
        raise InputError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _leave_note(file, {"pid": os.getpid(), "what": what[:200]})
        yield
    finally:
        os.close(file)  # which releases it


def _acquire(
    path: Path,
    bound: float | None,
    waiting: Callable[[str], None] | None,
    sleep: Callable[[float], None],
) -> int:
    """Lock the file, and wait at most ``bound`` seconds; None refuses at once."""
    deadline = time.monotonic() + (bound or 0.0)
    told = ""
    while True:
        file = _open(path)
        try:
            locked = _locked(file)
            if locked and _is_there(file, path):
                return file
            holder = None if locked else _holder(file)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if holder is None:  # the file was deleted meanwhile: other runs lock a new one
            continue
        busy = f"another run measures on this machine ({holder})"
        if bound is None:
            raise InputError(f"{busy}; wait for it, or leave out --no-wait")
        left = deadline - time.monotonic()
        if left <= 0:
            raise BusyError(
                f"{busy} and did not end within {_duration(bound)}; end it if it hangs, or wait "
                f"longer with {SECONDS_VARIABLE}"
            )
        if waiting is not None and holder != told:
            waiting(f"{busy}; waiting for it, at most {_duration(bound)} in all")
            told = holder
        sleep(min(_POLL_SECONDS, left))


def _locked(file: int) -> bool:
    """Lock the file now; False if another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


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
    """Describe the holder: its process as the kernel knows it, and the note in the file.

    Any user may have written the note. Without the kernel's list the process is the note's.
    """
    try:
        note = json.loads(os.pread(file, _NOTE_BYTES, 0))
        pid, what = int(note["pid"]), f", {printable(str(note['what']))[:200]}"
    except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
        pid, what = None, ""
    holder = _holding_process(file)
    if holder is not None and holder != pid:
        pid, what = holder, ""
    return "unknown" if pid is None else f"process {pid}{_user_of(pid)}{what}"


def _holding_process(file: int) -> int | None:
    """Id of the process that locks the file; None if the kernel does not tell."""
    facts = os.fstat(file)
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _LOCKS.read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE 4711 fe:01:262162 0 EOF; a waiting process has "->".
            _, kind, _, _, pid, place, *_ = line.split()
            if kind == "FLOCK" and place == f"{device}:{facts.st_ino}" and int(pid) > 0:
                return int(pid)
    return None


def _user_of(pid: int) -> str:
    import psutil

    try:
        return f" of user {printable(psutil.Process(pid).username())}"
    except (psutil.Error, ValueError, OverflowError):
        return ""
