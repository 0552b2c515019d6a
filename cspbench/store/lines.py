"""The text of a run: lines of launches with their checksums, ``run.json``, and bounds of both."""

from __future__ import annotations

import contextlib
import json
import math
import re
import zlib
from typing import Any

from pydantic_core import from_json

from cspbench.core.plain import without_surrogates

Json = dict[str, Any]

#: Bounds of what becomes an object of Python, since two bytes of text become a hundred of memory:
#: lists and objects of ``run.json`` (an analysis has about 5,000) and its values except layers
#: (a case has five); lists and objects of a launch and its values except samples.
MAX_RUN_CONTAINERS = 2_000_000
MAX_RUN_VALUES = 200_000
MAX_LAUNCH_CONTAINERS = 20_000
MAX_LAUNCH_VALUES = 200_000
#: Cases of a run: each is a row of a table.
MAX_CASES = 10_000
#: A number that may be too large for Python.
_HUGE = re.compile(rb"[eE]\+?\d{3,}\s*[,\]}]")


def encode_line(launch: Json) -> bytes:
    """One line: CRC-32 of the JSON text in eight hexadecimal digits, a space, the text.

    Raises:
        ValueError: it would not be read: it has a number that is not finite, or too much.
    """
    text = json.dumps(launch, separators=(",", ":"), allow_nan=False).encode()
    _check_containers(text, MAX_LAUNCH_CONTAINERS)
    _check_values(text, launch)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_line(line: bytes) -> Json:
    """Inverse of :func:`encode_line`.

    Raises:
        ValueError: the line is torn or damaged.
    """
    checksum, _, text = line.partition(b" ")
    if len(checksum) != 8 or int(checksum, 16) != zlib.crc32(text):
        raise ValueError("checksum does not match")
    launch = _parse(text, MAX_LAUNCH_CONTAINERS)
    if not isinstance(launch, dict):
        raise ValueError("not an object")
    _check_values(text, launch)
    return launch


def _check_values(text: bytes, launch: Json) -> None:
    samples = launch.get("latencies_ns")
    if text.count(b",") - (len(samples) if isinstance(samples, list) else 0) > MAX_LAUNCH_VALUES:
        raise ValueError(f"it holds more than {MAX_LAUNCH_VALUES:,} values")


def _check_containers(text: bytes, most: int) -> None:
    if text.count(b"[") + text.count(b"{") > most:
        raise ValueError(f"it holds more than {most:,} lists and objects")


def _parse(text: bytes, most_containers: int) -> Any:
    """Parse standard JSON: NaN and infinity, which Python accepts, are refused.

    Raises:
        ValueError: it is none, is nested too deeply, or has too many lists and objects.
    """
    _check_containers(text, most_containers)
    with contextlib.suppress(ValueError):
        return from_json(text, allow_inf_nan=False)  # in half of the time
    try:  # `from_json` refuses half surrogate pairs, which a log may contain
        return without_surrogates(json.loads(text, parse_constant=_no_constant))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_run(text: bytes) -> Any:
    """Parse ``run.json``, which a resumed run writes again: 1e999 is read as infinity, no JSON.

    Raises:
        ValueError: it is no JSON, or holds too much.
    """
    if _HUGE.search(text):
        try:
            json.loads(text, parse_float=_finite)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    meta = _parse(text, MAX_RUN_CONTAINERS)
    if isinstance(meta, dict) and _values(meta) > MAX_RUN_VALUES:
        raise ValueError(f"it holds more than {MAX_RUN_VALUES:,} values")
    return meta


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is not finite")
    return number


def _values(meta: Json) -> int:
    """How many values ``run.json`` holds except the layers of analyses."""
    analyses = meta.get("analyses")
    heads: list[Any] = []
    if isinstance(analyses, dict):
        meta = {**meta, "analyses": None}
        heads = [{**one, "rows": None} for one in analyses.values() if isinstance(one, dict)]
    number, left = 0, [meta, heads]
    while left:
        one = left.pop()
        items = one.values() if isinstance(one, dict) else one
        number += len(items)
        left.extend(item for item in items if isinstance(item, dict | list))
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
