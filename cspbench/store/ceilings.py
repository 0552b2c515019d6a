"""Ceilings on disk, once a device: found again by whoever draws a roofline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cspbench.artifacts.cache import cache_folder
from cspbench.jobs.ceilings import Ceilings
from cspbench.machine.facts import fingerprint

if TYPE_CHECKING:
    from cspbench.store.rundir import Json, RunDirectory


class CeilingsPort(Protocol):
    """Where a session looks up a device's ceilings, and keeps them."""

    def known(self, device: str, threads: int) -> Ceilings | None:
        """Those measured earlier; None if none were."""

    def note(self, device: str, threads: int, ceilings: Ceilings) -> None:
        """Put them where the run's readers find them."""


class MachineCeilings:
    """This machine's: kept in the user's cache, noted in the run."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def known(self, device: str, threads: int) -> Ceilings | None:
        """Those that any run or ``cspbench ceilings`` measured here."""
        return known_ceilings(device, threads)

    def note(self, device: str, threads: int, ceilings: Ceilings) -> None:
        """Keep them in the cache and in ``run.json``."""
        if known_ceilings(device, threads) is None:
            keep_ceilings(device, ceilings)

        def change(meta: Json) -> None:
            meta.setdefault("ceilings", {})[f"{device}/t{threads}"] = asdict(ceilings)

        self._directory.update(change)


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
    path.write_text(json.dumps(asdict(ceilings)), encoding="utf-8")
    return path
