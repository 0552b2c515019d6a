"""Text from files and other people, made safe to show."""

from __future__ import annotations

import re

#: Control characters, line separators, bidirectional overrides, halves of a surrogate pair.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace control characters, so that no name can drive the terminal."""
    return _CONTROL.sub("�", text)
