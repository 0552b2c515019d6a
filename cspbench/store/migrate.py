"""Migrates older formats of ``run.json``: one step for each format, applied in order when read.

On disk a run keeps its old format until it is resumed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

_NAME_AND_UUID = re.compile(r"(.+) \(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\)")

#: The format that this version writes.
FORMAT = 2


def _from_1(meta: Json) -> None:
    """Format 1 lacks later settings; they are off, so that resuming adds no launches."""
    suite = meta.get("suite")
    measure = suite.get("measure") if isinstance(suite, dict) else None
    if isinstance(measure, dict):
        for name in ("memory", "ceilings", "layers"):
            measure.setdefault(name, False)
        measure.setdefault("sensors", "none")


#: By format, the step to the next one. It changes the data in place and must bear untrusted runs.
STEPS: dict[int, Callable[[Json], None]] = {1: _from_1}


def split_gpu(environment: object) -> object:
    """Split the ``gpu`` "NAME (UUID)" of older runs into ``gpu`` and ``gpu_uuid``."""
    if not isinstance(environment, dict) or "gpu_uuid" in environment:
        return environment
    match = _NAME_AND_UUID.fullmatch(str(environment.get("gpu")))
    return {**environment, "gpu": match[1], "gpu_uuid": match[2]} if match else environment


def migrate(meta: Json) -> Json:
    """Return ``run.json`` in today's format; ``meta`` itself is not changed.

    Raises:
        ValueError: the format does not exist.
    """
    if meta["format"] == FORMAT:
        return meta  # without a copy, because analyses are large
    migrated = copy.deepcopy(meta)
    for number in range(migrated["format"], FORMAT):
        step = STEPS.get(number)
        if step is None:
            raise ValueError(f"there is no run format {number}")
        step(migrated)
    migrated["format"] = FORMAT
    return migrated
