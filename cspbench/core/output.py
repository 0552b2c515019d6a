"""The one way out for what a command prints: a terminal, a pipe, the log of a CI service.

`inert_streams` puts an `InertStream` before standard output and error. Whatever is printed, by us,
by a plug-in or by a library, goes through it: no control character, no hidden character and no
command of a CI service leaves. Only `say` and `show` add style, and only `annotate` prints
commands. On GitHub commands are switched off besides, with a token that no stranger can guess, for
what reaches the log past Python: a process or a library that writes by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO, cast

from cspbench.core.text import inert, printable

_STYLES = {"bold": 1, "dim": 2, "green": 32, "yellow": 33}
#: A line that begins so is a command of GitHub; spaces before do not matter there.
_COMMAND = re.compile(r"^([^\S\n]*:):", re.MULTILINE)
#: A line that holds this is an older command of GitHub, one of Azure (##vso[) or of TeamCity.
_OLD_COMMAND = re.compile(r"##(?=[\w.-]*\[)")
_LINE_START = re.compile(r"[^\S\n]*:?")


class Styled(NamedTuple):
    """Text that a terminal shows in a style; "" for none."""

    text: str
    style: str


class InertStream:
    """A text stream that makes inert what it is given; it has no ``buffer`` that would pass it."""

    def __init__(self, raw: TextIO, commands: _Commands) -> None:
        self.raw = raw
        self._commands = commands
        self._line = ""  # how the unfinished line begins, as far as it may become a command

    @property
    def encoding(self) -> str:
        """That of the stream below."""
        return self.raw.encoding

    @property
    def errors(self) -> str | None:
        """That of the stream below."""
        return self.raw.errors

    @property
    def closed(self) -> bool:
        """Whether the stream below is closed."""
        return self.raw.closed

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """That of the stream below."""
        return self.raw.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def flush(self) -> None:
        """Hand on what waits."""
        self.raw.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text."""
        for line in lines:
            self.write(line)

    def write(self, text: str, style: str = "") -> int:
        """Write a text of any origin; ``style`` is one of ours, which only a terminal shows."""
        self._commands.stop()
        made = self._without_commands(inert(text))
        if self.raw.encoding and self.raw.errors == "strict":  # better an escape than an error
            made = made.encode(self.raw.encoding, "backslashreplace").decode(self.raw.encoding)
        if style and self.isatty() and not os.environ.get("NO_COLOR"):  # https://no-color.org
            made = f"\x1b[{_STYLES[style]}m{made}\x1b[0m"
        self.raw.write(made)
        return len(text)

    @property
    def within_line(self) -> bool:
        """Whether a line was begun and not ended."""
        return bool(self._line)

    def _without_commands(self, text: str) -> str:
        before = self._line
        whole = before + text
        last = whole[whole.rfind("\n") + 1 :]
        self._line = last[:100] if _LINE_START.fullmatch(last) else last and "x"
        # The escapes of JSON: in a JSON text they mean what they replace. The part that was
        # written stays as it is, for what is escaped follows it.
        return _OLD_COMMAND.sub(r"#\\u0023", _COMMAND.sub(r"\1\\u003a", whole)[len(before) :])


class _Commands:
    """GitHub's commands, which are on outside of what we print."""

    def __init__(self, log: TextIO | None) -> None:
        self._log = log if os.environ.get("GITHUB_ACTIONS") == "true" else None
        self._token: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether they are off."""
        return self._token is not None

    def leave_on(self) -> None:
        """Write no more of our own: standard error has only events."""
        self._log = None

    def stop(self) -> None:
        """Switch them off, before the first text."""
        if self._log is not None and self._token is None:
            self._token = secrets.token_hex(16)
            self._print(f"::stop-commands::{self._token}")

    def resume(self) -> None:
        """Switch them on."""
        if self._token is not None:
            self._print(f"::{self._token}::")
            self._token = None

    def _print(self, line: str) -> None:
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.write(f"{line}\n")
                self._log.flush()


_commands = _Commands(None)


@contextlib.contextmanager
def inert_streams() -> Iterator[None]:
    """Make inert what the block prints."""
    global _commands  # noqa: PLW0603 - there is one standard error
    streams, before = (sys.stdout, sys.stderr), _commands
    _commands = _Commands(sys.stderr)
    guard_streams()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _resume()
        sys.stdout, sys.stderr = streams
        _commands = before


def guard_streams() -> None:
    """Put the streams that something else has replaced behind inert ones again."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, InertStream):  # None: it was closed
            setattr(sys, name, InertStream(stream, _commands))


def say(*parts: str | Styled, err: bool = False) -> None:
    """Print one line, whatever the parts hold; on standard error with ``err``."""
    pieces = [Styled(part, "") if isinstance(part, str) else part for part in parts]
    _print([Styled(printable(text), style) for text, style in pieces], err)


def show(text: str, *, err: bool = False, headed: bool = False) -> None:
    """Print a text of several lines that a renderer made; ``headed``: the first is a heading."""
    head, newline, rest = text.partition("\n")
    _print([Styled(head, "bold" if headed else ""), Styled(newline + rest, "")], err)


def _print(parts: list[Styled], err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        return
    for text, style in [*parts, Styled("\n", "")]:
        if isinstance(stream, InertStream):
            stream.write(text, style)
        elif text:
            stream.write(inert(text))
    stream.flush()


def annotate(lines: Iterable[str]) -> None:
    """Print commands of GitHub, one a line, on standard error; each text in them is escaped."""
    stream = raw_stderr()
    if stream is None:
        return
    _resume()
    for line in lines:
        stream.write(f"{printable(line)}\n")
    stream.flush()


def _resume() -> None:
    """Switch commands on, on a line of its own; both streams may end in one pipe (``2>&1``)."""
    streams = [one for one in (sys.stdout, sys.stderr) if isinstance(one, InertStream)]
    stopped = _commands.stopped and sys.stderr is not None
    if stopped and any(stream.within_line for stream in streams):
        sys.stderr.write("\n")
    _commands.resume()


def raw_stderr() -> TextIO | None:
    """Standard error itself, for a display that draws; it must make inert what it shows."""
    stream: object = sys.stderr
    return stream.raw if isinstance(stream, InertStream) else cast("TextIO | None", stream)


def event_stream() -> TextIO:
    """Standard error for JSON lines: it gets no command of ours, and no line can be one."""
    _commands.leave_on()
    return sys.stderr
