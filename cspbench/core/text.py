"""Text that several packages need: patterns of ids, the nearest of the valid names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


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
