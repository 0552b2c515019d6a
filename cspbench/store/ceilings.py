"""Ceilings on disk, once a device: found again by whoever draws a roofline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cspbench.artifacts.cache import cache_folder
from cspbench.machine.comparability import Use, identity
from cspbench.machine.facts import fingerprint


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at best, as measured (see ``measure/ceilings.py``).

    ``gflops`` by precision (1e9 floating-point operations a second), ``bandwidth_gbs`` by kind of
    access, ``cache_bandwidth_gbs`` by level (1e9 bytes a second), ``overhead_us`` of one operator.
    """

    gflops: dict[str, float]
    bandwidth_gbs: dict[str, float]
    cache_bandwidth_gbs: dict[str, float]
    overhead_us: float
    working_set_bytes: int
    threads: int
    name: str | None = None


def entry(device: str, threads: int, facts: Mapping[str, Any] | None = None) -> Path:
    """Where the ceilings of a machine's device lie, measured or not.

    ``facts`` are the machine's fingerprint; of this one by default.
    """
    about = identity(fingerprint(()) if facts is None else facts, Use.CEILINGS)
    text = json.dumps([about, device, threads])
    return cache_folder() / "ceilings" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def known_ceilings(
    device: str, threads: int, facts: Mapping[str, Any] | None = None
) -> Ceilings | None:
    """The ceilings measured earlier on this machine, or on one of such facts; None if none were."""
    try:
        return Ceilings(**json.loads(entry(device, threads, facts).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def keep_ceilings(device: str, ceilings: Ceilings) -> Path:
    """Store what was measured."""
    path = entry(device, ceilings.threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(ceilings)), encoding="utf-8")
    return path
