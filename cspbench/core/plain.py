"""Plain values: what JSON of another process or machine may hold.

Fields of typed results have bounds of their own (``core/bounds.py``). Others are kept as they came,
such as a backend's facts and the readings of a sensor. They must not break what stores them: JSON
knows no NaN and no infinity, and Python recurses into values.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Answers of workers and boards nest about six levels.
MAX_DEPTH = 20
#: Counters of 64 bits fit.
MAX_NUMBER = 2**64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_plain(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: it is no JSON, or not plain.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_plain(value)
    return without_surrogates(value) if _SURROGATE.search(text) else value


def without_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs, which JSON can hold and UTF-8 cannot, by their escapes.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(one) for key, one in value.items()}
    return value


def check_plain(value: object) -> None:
    """Check a value as ``json.loads`` returns it.

    Raises:
        ValueError: it has a number that is not finite or has over 64 bits, or is nested too deeply.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                # Of a million latencies two stand for all, in a tenth of the time.
                below += [min(one), max(one)] if set(map(type, one)) == {int} else one
            # Not `abs(one) > MAX_NUMBER`, which NaN would pass.
            elif isinstance(one, int | float) and not -MAX_NUMBER <= one <= MAX_NUMBER:
                raise ValueError("a number is not finite, or has over 64 bits")
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")
