"""Text helpers: patterns of ids, nearest names, printable text, percentages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Control characters, line separators, bidirectional overrides, halves of a surrogate pair.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def nearest(name: str, valid: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the valid name closest to ``name``, or nothing."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def matches(pattern: str, text: str) -> bool:
    """True if ``pattern`` matches the whole text; only ``*`` and ``?`` are special.

    The parts between stars are looked for once, from left to right. Their first place is as good
    as any, so many stars cost no more than one.
    """
    first, *parts = pattern.split("*")
    if not parts:
        return len(first) == len(text) and _find(first, text, 0, len(text)) == 0
    last = parts.pop()
    at, end = len(first), len(text) - len(last)
    if at > end or _find(first, text, 0, at) or _find(last, text, end, len(text)) < 0:
        return False
    for part in parts:
        place = _find(part, text, at, end)
        if place < 0:
            return False
        at = place + len(part)
    return True


def _find(part: str, text: str, start: int, end: int) -> int:
    """First place of ``part`` between ``start`` and ``end``; -1 without any."""
    if "?" not in part:
        return text.find(part, start, end)
    found = re.compile(".".join(map(re.escape, part.split("?"))), re.DOTALL).search(
        text, start, end
    )
    return found.start() if found else -1


def select(patterns: Iterable[str], case_ids: Iterable[str]) -> list[str]:
    """Ids that match any pattern, in their own order; all of them without patterns."""
    patterns = list(patterns)
    return [i for i in case_ids if not patterns or any(matches(p, i) for p in patterns)]


def first_line(error: Exception, most: int = 300) -> str:
    """The first line of an error's message, or its type; at most ``most`` characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def printable(text: str) -> str:
    """Replace control characters, so that no name can control the terminal."""
    return _CONTROL.sub("�", text)


def percent(share: float, digits: int = 0, *, signed: bool = False, minus: str = "-") -> str:
    """A share as ``24 %``; a change is ``signed``: ``+24 %``, ``-3 %``."""
    text = f"{share:{'+' if signed else ''}.{digits}%}"
    return text.replace("%", " %").replace("-", minus)
