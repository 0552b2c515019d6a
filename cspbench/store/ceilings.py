"""Ceilings on disk, once a device: found again by whoever draws a roofline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cspbench.core.files import cache_folder, write_whole
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
    facts = fingerprint() if facts is None else facts
    about = {
        name: facts.get(name)
        for name in ("cpu", "cores_usable", "governor", "host", "nvidia_driver", "board")
    }
    modes = ("gpu", "nvpmodel", "jetson_clocks")
    about |= {name: facts[name] for name in modes if facts.get(name) is not None}
    torch = (facts.get("libraries") or {}).get("torch")
    text = json.dumps([about, torch, device, threads], sort_keys=True)
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
    write_whole(path, json.dumps(asdict(ceilings)).encode(), shared=True)
    return path
