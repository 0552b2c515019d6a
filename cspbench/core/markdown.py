"""Markdown that shows text as it is: no link, image, HTML, mention or reference, on one line.

A backslash makes no mention of GitHub or GitLab inert, and none of their references: they look for
them in what Markdown has made. A code span does, and a reader copies an id from it as it is. So a
word that could be alive becomes a code span, and the signs of markup in others get a backslash.
"""

from __future__ import annotations

import re

from cspbench.core.text import printable

#: What may be a mention, a reference, an address, a tag, an entity, an emoji or mathematics.
_ALIVE = re.compile(
    r"[@`\\$]|[#!%~&^]\w|&#|<\S|\S>|://|\bwww\.|\b(?:mailto|xmpp|javascript|data):|\bGH-\d|:\w+:",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"([\[\]*<>~|^{}])")
#: An underscore within a word is no emphasis.
_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)|__")
#: At the start of a line a heading, a list, a quotation, a rule.
_START = re.compile(r"(?:[-+]|-+|=+|#+|\d+[.)])\Z")


def code(text: str) -> str:
    """A code span that shows the text; empty for none.

    A pipe is shown as its escape: in a table it would end the cell.
    """
    shown = printable(text).replace("|", "\\u007c").strip(" ")
    if not shown:
        return ""
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def markdown(text: str) -> str:
    """Prose that shows the text; words that could be alive are code spans."""
    words = printable(text).split(" ")
    return " ".join(
        _word(word, first=number == 0) for number, word in enumerate(filter(None, words))
    )


def _word(word: str, *, first: bool) -> str:
    if _ALIVE.search(word):
        return code(word)
    made = _UNDERSCORE.sub(lambda found: found[0].replace("_", r"\_"), _MARKUP.sub(r"\\\1", word))
    if first and (start := _START.match(made)):
        end = start.end() - 1
        made = rf"{made[:end]}\{made[end:]}"
    return made
