"""Control groups that bound the memory of a worker, on systems that allow them.

A group bounds a worker together with all processes that it starts, at every page. The other bounds
count only private memory (RLIMIT_DATA) or check twice a second. Version 2 needs a parent whose
children have the memory controller: systemd delegates one to each user's session, and root has one.
Version 1, as on older boards, needs a writable hierarchy. Without either there is no group.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cspbench.machine.quotas import memberships

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_PREFIX = "cspbench-"
_numbers = itertools.count()


@dataclass(frozen=True)
class _Version:
    """Names of the files that differ between the versions."""

    limit: str
    events: str


_V1 = _Version("memory.limit_in_bytes", "memory.oom_control")
_V2 = _Version("memory.max", "memory.events")


class MemoryGroup:
    """A control group with a memory bound; the code that makes it must close it."""

    def __init__(self, path: Path, version: _Version) -> None:
        self._path = path
        self._version = version

    @staticmethod
    def confine(pid: int, limit_bytes: int) -> MemoryGroup | None:
        """Put a process into a group of its own; None if this system does not allow it."""
        for parent, version in _candidates():
            _sweep(parent)
            path = parent / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
            try:
                path.mkdir()
            except OSError:
                continue
            group = MemoryGroup(path, version)
            try:
                # Not created where the controller is not on: these files are the kernel's.
                _write(path / version.limit, str(limit_bytes))
                _write(path / "cgroup.procs", str(pid))
            except OSError:
                group.close()
                continue
            with contextlib.suppress(OSError):  # without this it would swap instead of ending
                _write(path / "memory.swap.max", "0")
            return group
        return None

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has ended for lack of memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self._path / self._version.events).read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0

    def close(self) -> None:
        """Remove the group; its processes must have ended."""
        for _ in range(50):
            try:
                self._path.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # the kernel has not released its last process yet
                time.sleep(0.02)
            else:
                return


def _sweep(parent: Path) -> None:
    """Remove groups of controllers that were killed; their workers died with them."""
    if not Path("/proc/self").exists():  # it is not known who lives
        return
    for path in parent.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                path.rmdir()


def _candidates() -> Iterator[tuple[Path, _Version]]:
    """Possible parents of a group: the group of this process, and the parent of that."""
    with contextlib.suppress(OSError):
        for number, controllers, own in memberships(_OWN):
            if number == "0" and (_ROOT / "cgroup.controllers").exists():
                hierarchy, version = _ROOT, _V2
            elif "memory" in controllers.split(","):
                hierarchy, version = _ROOT / "memory", _V1
            else:
                continue
            group = hierarchy / own.lstrip("/")
            yield group, version
            if group != hierarchy:
                yield group.parent, version


def _write(path: Path, text: str) -> None:
    with path.open("r+", encoding="ascii") as file:
        file.write(text)
