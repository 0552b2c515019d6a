"""Older forms of ``run.json`` as today's: a step for each format, applied in order when read.

A run keeps the form it was begun in on disk until it is resumed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

_NAME_AND_UUID = re.compile(r"(.+) \(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\)")

#: What this version writes.
FORMAT = 2


def _from_1(meta: Json) -> None:
    """Format 1 leaves out settings that did not exist yet: resumed, nothing more is measured."""
    suite = meta.get("suite")
    measure = suite.get("measure") if isinstance(suite, dict) else None
    if isinstance(measure, dict):
        for name in ("memory", "ceilings", "layers"):
            measure.setdefault(name, False)
        measure.setdefault("sensors", "none")


#: Format -> what makes the next one of it, in place; whatever it finds may be a stranger's.
STEPS: dict[int, Callable[[Json], None]] = {1: _from_1}


def split_gpu(environment: object) -> object:
    """Facts with the card's UUID apart from its name; older runs hold "NAME (UUID)" as ``gpu``."""
    if not isinstance(environment, dict) or "gpu_uuid" in environment:
        return environment
    found = _NAME_AND_UUID.fullmatch(str(environment.get("gpu")))
    return {**environment, "gpu": found[1], "gpu_uuid": found[2]} if found else environment


def migrate(meta: Json) -> Json:
    """Return ``run.json`` in today's format; one in an older format stays as it is.

    Raises:
        ValueError: there never was such a format.
    """
    if meta["format"] == FORMAT:
        return meta  # analyses of a thousand models are not copied for nothing
    found = copy.deepcopy(meta)
    for number in range(found["format"], FORMAT):
        step = STEPS.get(number)
        if step is None:
            raise ValueError(f"there is no run format {number}")
        step(found)
    found["format"] = FORMAT
    return found
