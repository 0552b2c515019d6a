"""Ceilings of devices on disk, for the runs and rooflines that need them later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import open_input, write_whole
from cspbench.jobs.ceilings import Ceilings
from cspbench.machine.comparability import Use, identity
from cspbench.machine.facts import fingerprint

if TYPE_CHECKING:
    from cspbench.store.lines import Json
from cspbench.store.rundir import RunDirectory


class CeilingsPort(Protocol):
    """Through it a session reads and stores the ceilings of devices."""

    def known(self, device: str, threads: int) -> Ceilings | None:
        """Return ceilings that were measured earlier; None without any."""

    def note(self, device: str, threads: int, ceilings: Ceilings, *, measured: bool) -> None:
        """Store ceilings with the run; ``measured`` says that they were not known before."""


class MachineCeilings:
    """Ceilings of this machine, in the user's cache and in the run."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def known(self, device: str, threads: int) -> Ceilings | None:
        """Return ceilings that a run or ``cspbench ceilings`` measured on this machine."""
        return known_ceilings(device, threads)

    def note(self, device: str, threads: int, ceilings: Ceilings, *, measured: bool) -> None:
        """Store new ceilings in the cache, and all of them in ``run.json``."""
        if measured:
            keep_ceilings(device, ceilings)

        def change(meta: Json) -> None:
            meta.setdefault("ceilings", {})[f"{device}/t{threads}"] = asdict(ceilings)

        self._directory.update(change)


def entry(device: str, threads: int, facts: Mapping[str, Any] | None = None) -> Path:
    """Path of the file for the ceilings of a device, whether it exists or not.

    ``facts`` are the fingerprint of the device's machine; this machine's by default.
    """
    about = identity(fingerprint(()) if facts is None else facts, Use.CEILINGS)
    text = json.dumps([about, device, threads])
    return cache_folder("ceilings") / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def known_ceilings(
    device: str, threads: int, facts: Mapping[str, Any] | None = None
) -> Ceilings | None:
    """Ceilings measured earlier on this machine, or on one with ``facts``; None without any."""
    try:
        with open_input(entry(device, threads, facts)) as file:
            return Ceilings(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def keep_ceilings(device: str, ceilings: Ceilings) -> Path:
    """Write the ceilings of a device of this machine to the cache; return the file."""
    path = entry(device, ceilings.threads)
    make_cache_folder(path.parent)
    write_whole(path, json.dumps(asdict(ceilings)).encode(), shared=True)
    return path
