"""Ceilings of devices on disk, for the runs and rooflines that need them later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cspbench.jobs.ceilings import Ceilings
from cspbench.store.kept import keep, kept_file, read_kept

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
    return kept_file("ceilings", device, threads, facts=facts)


def known_ceilings(
    device: str, threads: int, facts: Mapping[str, Any] | None = None
) -> Ceilings | None:
    """Ceilings measured earlier on this machine, or on one with ``facts``; None without any."""
    return read_kept(entry(device, threads, facts), Ceilings)


def keep_ceilings(device: str, ceilings: Ceilings) -> Path:
    """Write the ceilings of a device of this machine to the cache; return the file."""
    return keep(entry(device, ceilings.threads), ceilings)
