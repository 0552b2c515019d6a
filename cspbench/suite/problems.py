"""Mistakes in a suite: where each was made, and their collection into one error."""

from __future__ import annotations

from typing import NamedTuple

from cspbench.errors import InputError

#: After so many mistakes reading stops: the file is probably no suite.
MAX_PROBLEMS = 100


class SourceLocation(NamedTuple):
    """A location in a suite: file, line and column (from 1), and the key there.

    A value of the command line has the ``source`` ``"--set key=value"`` and line 0.
    """

    source: str
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{place}: {self.key}" if self.key and self.line else place


class TooManyProblems(Exception):
    """Raised by :meth:`Problems.add` after ``MAX_PROBLEMS`` mistakes."""


class Problems:
    """Collects mistakes; a sentence that holds for several models or backends is shown once."""

    def __init__(self) -> None:
        self._owners: dict[tuple[SourceLocation, str], list[str]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, where: SourceLocation, sentence: str, owner: str = "") -> None:
        """Note a mistake; ``owner`` is the model, neck or backend that cannot take the value."""
        owners = self._owners.setdefault((where, sentence), [])
        if owner and owner not in owners:
            owners.append(owner)
        if len(self._owners) >= MAX_PROBLEMS:
            raise TooManyProblems

    def error(self) -> InputError:
        """All mistakes as one error, in the order in which they stand in the file."""
        lines = [
            f"{where}: {sentence}{_for(owners)}"
            for (where, sentence), owners in sorted(self._owners.items())
        ]
        if len(lines) >= MAX_PROBLEMS:
            lines.append(f"there may be more mistakes: only the first {MAX_PROBLEMS} are shown")
        return InputError(lines)


def _for(owners: list[str]) -> str:
    if not owners:
        return ""
    rest = f" and {len(owners) - 3} more" if len(owners) > 3 else ""
    return f" (for {', '.join(owners[:3])}{rest})"


def shown(value: object) -> str:
    """Text of a value for messages, at most 80 characters."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
    if type(value) in kinds:
        return kinds[type(value)]
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
