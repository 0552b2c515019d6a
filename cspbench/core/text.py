r"""Text helpers: patterns of ids, nearest names, inert text, percentages.

Text is inert if it shows what it is and does nothing else. Names, reasons and logs come from
strangers, so every character that controls a terminal, hides, or turns the writing direction is
shown as its escape (``\u202e``); every visible character of any script stays. ``core/output.py``
and ``core/files.py`` apply this to all that leaves, whoever wrote it; ``printable`` is for text
that must stay on one line, or whose width counts.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable

#: Invisible characters that Unicode counts among letters and marks: joiners, fillers, selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._]+")
#: Readable characters of a slug.
_SLUG_CHARACTERS = 60
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


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
    """Inert text on one line: a line end is shown as its escape, too."""
    if text.isascii() and text.isprintable():  # most names are, and tables have many
        return text
    return _escaped(text)


def inert(text: str) -> str:
    """Inert text that keeps its lines."""
    return _escaped(text, kept="\n")


def _escaped(text: str, kept: str = "") -> str:
    hidden = "".join(one for one in set(text) if _visible(one) != one and one not in kept)
    if not hidden:
        return text
    # In a page of megabytes a table of characters takes far longer than a search for these.
    return re.sub(f"[{re.escape(hidden)}]", lambda found: _visible(found[0]), text)


@functools.lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    """The character if it can be seen or is a space, else its escape, as JSON writes it."""
    # Not printable: Cc, Cf, Cs, Co, Cn, Zl, Zp, and Zs other than " ".
    seen = character.isprintable() or unicodedata.category(character) == "Zs"
    if seen and not _INVISIBLE.match(character):
        return character
    number = ord(character)
    return _SHORT.get(character) or (f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}")


def slug(text: str) -> str:
    """A file name, or a part of an address, for any text; another one for every text."""
    readable = _NO_FILE_NAME.sub("-", text).strip("-.")[:_SLUG_CHARACTERS]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def number_of(count: int, noun: str) -> str:
    """``1 thread``, ``2 threads``, ``2 launches``: for nouns whose plural takes an s or es."""
    ending = "es" if noun.endswith(("ch", "s", "x")) else "s"
    return f"{count} {noun}{'' if count == 1 else ending}"


def fixed(value: float, digits: int) -> str:
    """``digits`` decimals; two significant digits where these would all be 0: 0.00045, never 0."""
    text = f"{value:.{digits}f}"
    return text if not value or text.strip("-0.") else f"{value:.2g}"


def significant(value: float, count: int) -> str:
    """So many significant digits, zeros too, never in powers of ten: 92.00, 1234, 123456."""
    text = f"{value:#.{count}g}".removesuffix(".")
    return f"{value:.0f}" if "e+" in text else text


def percent(share: float, digits: int = 0, *, signed: bool = False, minus: str = "-") -> str:
    """A share as ``24 %``; a change is ``signed``: ``+24 %``, ``-3 %``."""
    text = f"{share:{'+' if signed else ''}.{digits}%}"
    return text.replace("%", " %").replace("-", minus)
