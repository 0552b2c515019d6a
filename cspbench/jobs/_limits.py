"""Bounds that a worker sets on itself: of its memory and of its processor time."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def limit_data(limit: int | None) -> None:
    """Bound this process's private memory, so that a runaway allocation fails in it alone.

    RLIMIT_DATA counts what is allocated, not address space, which drivers reserve in terabytes.
    """
    if limit is None or sys.platform != "linux":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def limit_growth(memory_bytes: int, processor_seconds: int) -> None:
    """Bound what this process takes from now on.

    What it has imported is not counted: torch alone takes 0.2 to 1 GB, by how it was built. An
    allocation beyond the bound fails; at the end of the time the kernel ends the process.
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    seconds = int(used.ru_utime + used.ru_stime) + processor_seconds
    soft = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    data = _data_bytes()
    if data is not None:
        limit_data(data + memory_bytes)


def _data_bytes() -> int | None:
    """What RLIMIT_DATA counts of this process now; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return None
