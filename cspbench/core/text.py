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


def matches(pattern: str, case_id: str) -> bool:
    """True if ``pattern`` matches the whole id; only ``*`` and ``?`` are special."""
    regex = re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern),
        re.DOTALL,
    )
    return bool(regex.fullmatch(case_id))


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
