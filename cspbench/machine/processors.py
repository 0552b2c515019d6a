"""Which processors a measurement with one thread may keep to."""

from __future__ import annotations

import os
from pathlib import Path

from cspbench.machine.sysfs import read_number

_CPUS = Path("/sys/devices/system/cpu")
#: How fast a processor is: relative to the fastest (Arm), or its highest clock in kHz.
_SPEEDS = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")


def fast_processors() -> list[int]:
    """The processors that this process may run on, without the slow ones of a mixed machine.

    Empty where the system does not let a process choose.
    """
    try:
        usable = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return []
    for name in _SPEEDS:
        speeds = {cpu: read_number(_CPUS / f"cpu{cpu}" / name) or 0.0 for cpu in usable}
        if min(speeds.values()) > 0:
            fastest = max(speeds.values())
            return [cpu for cpu, speed in speeds.items() if speed == fastest]
    return usable


def processor_of(block: int) -> int | None:
    """The processor that block number ``block`` keeps to; each has its turn."""
    fast = fast_processors()
    return fast[block % len(fast)] if fast else None
