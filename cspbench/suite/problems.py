"""Mistakes in a suite: where each was made, and their collection into one error."""

from __future__ import annotations

from typing import NamedTuple

from cspbench.errors import InputError

#: More mistakes than this are not looked for: the file is something else than a suite.
MAX_PROBLEMS = 100


class Where(NamedTuple):
    """A place in a suite: file, line and column (from 1), and the key that stands there.

    A value that comes from the command line has ``source`` ``"--set key=value"`` and line 0.
    """

    source: str
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{place}: {self.key}" if self.key and self.line else place


class TooManyProblems(Exception):
    """Raised by :meth:`Problems.add` when it is pointless to go on."""


class Problems:
    """Collects mistakes; the same sentence about several models or backends is said once."""

    def __init__(self) -> None:
        self._owners: dict[tuple[Where, str], list[str]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, where: Where, sentence: str, owner: str = "") -> None:
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
    """How a value that was read looks in a message, bounded."""
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
    if type(value) in kinds:
        return kinds[type(value)]
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
