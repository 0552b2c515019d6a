"""How a command ends by an error that it does not expect: one sentence, and never exit code 1.

Python ends with 1, which here means a confirmed regression. A fault of cspbench (or of a plug-in)
ends with 70 instead; a reader that left and a full disk, which are no faults, end with their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TextIO

import cspbench
from cspbench.core.output import say, show
from cspbench.core.statuses import ExitCode

#: Of a write to what takes no more. An error of a file that is named comes with that name instead.
_TAKES_NO_MORE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
#: Requirements that a board of a fleet does without: the controller exports, tabulates and draws.
BOARDS_LACK = frozenset({"torch", "pandas", "matplotlib"})
#: A message may hold a whole tensor; the file has all of it.
_LONGEST_MESSAGE = 300


def print_error(text: str) -> None:
    """Print a line on standard error; where that fails, the exit code must do."""
    with contextlib.suppress(OSError):
        say(text, err=True)


def exit_code_of(error: BaseException) -> ExitCode:
    """Report an error that no command expects, and return the exit code."""
    try:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return ExitCode.CLOSED_PIPE  # without a word, like every program in a pipe
        kept = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        if isinstance(error, OSError) and error.filename is None and error.errno in _TAKES_NO_MORE:
            print_error(f"error: cannot write the output: {error.strerror}{kept}")
            return ExitCode.USAGE  # as with --out FILE that cannot be written
        if isinstance(error, ModuleNotFoundError) and error.name in BOARDS_LACK:
            print_error(
                f"error: this needs {error.name}, which is not installed here: pip install "
                f"{error.name}, or do it on a machine that has it{kept}"
            )
            return ExitCode.USAGE
        _report_fault(error, kept)
    except Exception:  # memory that is used up, say: the exit code must be right all the same
        sys.excepthook(*sys.exc_info())
    return ExitCode.INTERNAL


def drop_unwritten() -> None:
    """Drop what standard output and error cannot write: Python would fail on it at its end."""
    for stream in _streams():
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _streams() -> list[TextIO]:
    """Standard output and error, as far as they were open when the process began."""
    return [stream for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]


def _reader_left() -> bool:
    """Whether it is standard output or error that has no reader, and not some pipe of ours."""
    import select

    poll = select.poll()
    for stream in _streams():
        poll.register(stream, 0)  # poll always reports errors and hang-ups
    return bool(poll.poll(0))


def _report_fault(error: BaseException, kept: str) -> None:
    what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if len(what) > _LONGEST_MESSAGE:
        what = f"{what[:_LONGEST_MESSAGE]}..."
    text = _report(error)
    place = _write(text)
    where = "follows" if place is None else f"is in {place}"
    print_error(f"error: cspbench failed unexpectedly: {what}; the traceback {where}{kept}")
    if place is None:
        show(text, err=True)


def _report(error: BaseException) -> str:
    """What a maintainer wants to know of a fault."""
    import platform
    import shlex
    import traceback

    system = f"Python {platform.python_version()}, {platform.platform()}"
    return "\n".join(
        (
            f"cspbench {cspbench.__version__}, {system}",
            f"command: {shlex.join(['cspbench', *sys.argv[1:]])}",
            "Please report this together with what `cspbench doctor` prints.",
            "",
            "".join(traceback.format_exception(error)).rstrip(),
        )
    )


def _write(text: str) -> Path | None:
    """Write a file in the user's cache, else in the temporary folder; None if neither takes it."""
    import tempfile

    from cspbench.core.cache import cache_folder, make_cache_folder
    from cspbench.core.text import inert
    from cspbench.errors import InputError

    for in_cache in (True, False):
        with contextlib.suppress(OSError, InputError):
            folder = cache_folder("errors") if in_cache else None  # None: the temporary folder
            if folder is not None:
                make_cache_folder(folder)
            with tempfile.NamedTemporaryFile(
                "w", prefix="cspbench-error-", suffix=".txt", dir=folder, encoding="utf-8",
                errors="replace", delete=False,
            ) as file:  # fmt: skip
                file.write(inert(text))
            return Path(file.name)
    return None
