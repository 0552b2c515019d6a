"""Darknet's .cfg text as sections with line numbers. Pure text: imports nothing heavy.

Reading follows Darknet's own reader (AlexeyAB/darknet ``read_cfg``, ``option_find``): a line that
starts with ``#`` or ``;`` is a comment, spaces do not matter, the first of two equal keys wins, and
keys that a section does not know are ignored. Where Darknet guesses, this reader refuses: at a line
that is neither a section nor ``key=value``, at a malformed number, and at an option before the
first section.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cspbench.core.files import open_input
from cspbench.errors import InputError

#: Bounds of what is read; the largest public configurations have 60 KB and 600 sections.
MAX_BYTES = 1024 * 1024
MAX_SECTIONS = 1024
#: Bound of a list of numbers, such as the sources of a route.
MAX_NUMBERS = 64
_INTEGER = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)
_COMMENT = re.compile(r"[#;].*")
_HEADER = re.compile(r"\[\s*(\w{1,64})\s*\]", re.ASCII)


def shown(text: str) -> str:
    """``text`` as a message may show it: quoted, control characters escaped, at most 40 long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


@dataclass(frozen=True)
class Option:
    """The value of a key and its line."""

    value: str
    line: int


@dataclass(frozen=True)
class Section:
    """``[name]`` with its options. ``path`` is where it was read, for messages."""

    name: str
    line: int
    path: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def fail(self, problem: str, key: str | None = None) -> InputError:
        """Return an InputError that names file, line and section."""
        option = self.options.get(key) if key else None
        line = option.line if option else self.line
        return InputError(f"{self.path}:{line}: [{self.name}] {problem}")

    def text(self, key: str, default: str) -> str:
        """Return the value of ``key`` in lower case without spaces, or ``default``."""
        option = self.options.get(key)
        return default if option is None else re.sub(r"\s", "", option.value).lower()

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return a whole number of at least ``low`` and at most ``high``.

        Raises:
            InputError: the value is not such a number.
        """
        option = self.options.get(key)
        return default if option is None else self._whole(key, option.value, low, high)

    def integers(self, key: str, limit: int = 10**9) -> tuple[int, ...]:
        """Return the comma-separated whole numbers of ``key``; empty if the key is missing."""
        option = self.options.get(key)
        if option is None:
            return ()
        parts = option.value.split(",", MAX_NUMBERS)
        if len(parts) > MAX_NUMBERS:
            raise self.fail(f"{key} lists more than {MAX_NUMBERS} numbers", key)
        return tuple(self._whole(key, part, -limit, limit) for part in parts)

    def number(self, key: str, default: float) -> float:
        """Return a finite number.

        Raises:
            InputError: the value is not a number, or larger than 1e9.
        """
        option = self.options.get(key)
        if option is None:
            return default
        try:
            value = float(option.value)
        except ValueError:
            value = float("nan")
        if not abs(value) <= 1e9:
            raise self.fail(f"{key} must be a number, not {shown(option.value)}", key)
        return value

    def flag(self, key: str) -> bool:
        """True if ``key`` is a number other than 0 (Darknet reads such flags as numbers)."""
        return self.number(key, 0.0) != 0.0

    def _whole(self, key: str, text: str, low: int, high: int) -> int:
        text = text.strip()
        if not _INTEGER.fullmatch(text):
            raise self.fail(f"{key} must be a whole number, not {shown(text)}", key)
        value = int(text.partition(".")[0])
        if not low <= value <= high:
            raise self.fail(f"{key}={value} must be between {low} and {high}", key)
        return value


def read_sections(path: str | Path) -> tuple[Section, ...]:
    """Read the sections of a .cfg file.

    Raises:
        InputError: not a readable regular file, too large, or with a malformed line.
    """
    try:
        with open_input(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be read ({reason})") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: is larger than {MAX_BYTES // 2**20} MiB, so it is not a network")
    return parse_sections(data.decode("utf-8-sig", errors="replace"), str(path))


def parse_sections(text: str, path: str = "<cfg>") -> tuple[Section, ...]:
    """Split ``text`` into sections; ``path`` is only for messages.

    Raises:
        InputError: a malformed line, or more than ``MAX_SECTIONS`` sections.
    """
    sections: list[Section] = []
    options: dict[str, Option] = {}
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, raw in enumerate(lines, start=1):
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        if line.startswith("["):
            header = _HEADER.fullmatch(line)
            if not header:
                raise InputError(f"{path}:{number}: {shown(line)} is not a [section]")
            if len(sections) >= MAX_SECTIONS:
                raise InputError(f"{path}:{number}: more than {MAX_SECTIONS} sections")
            options = {}
            sections.append(Section(header[1], number, path, options))
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not value:
            raise InputError(f"{path}:{number}: {shown(line)} is neither [section] nor key=value")
        if not sections:
            raise InputError(f"{path}:{number}: {shown(line)} comes before the first section")
        options.setdefault(key.replace(" ", ""), Option(value, number))
    return tuple(sections)
