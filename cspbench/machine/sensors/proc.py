"""State of the machine around a launch, from /proc: steal, others' CPU time, switches, load.

Where /proc is missing (not Linux) the fields are None: not measured, never 0.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cspbench.core.bounds import Amount, Count
from cspbench.machine.sensors.spec import SENSORS, Reading

#: Shares of one processor's time above which steal, and other processes, spoil a measurement.
STEAL_SHARE, FOREIGN_SHARE = 0.05, 0.25
#: /proc/stat counts in ticks of this length (USER_HZ is 100), and a kernel may charge a whole one
#: to the process that it meets when the tick ends. So a difference of steal is wrong by up to one,
#: and that of others' time, busy time less our own, by up to two. That much is no interference.
TICK_S = 0.01

_PROC_STAT = Path("/proc/stat")
#: Fields of the "cpu" line of /proc/stat, in order (proc(5)).
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)


@dataclass(frozen=True)
class Proc:
    """Spec of the sensor."""

    name: str = "proc"
    summary: str = "steal, other processes' CPU time, context switches and load, from /proc"
    rate_hz: float = 1.0
    on_request: bool = False

    def available(self) -> str | None:
        """Every Linux has the file."""
        return None if _PROC_STAT.exists() else "this system has no /proc/stat"

    def open(self) -> Proc:
        """Nothing to keep open."""
        return self

    def read(self) -> Reading:
        """Counters of the whole machine: seconds of processor time, and context switches."""
        times = read_cpu_times()
        if times is None:
            raise OSError("/proc/stat cannot be read any more")
        counters = {"cpu_busy_s": times.busy_s, "cpu_steal_s": times.steal_s}
        if times.context_switches is not None:
            counters["context_switches"] = float(times.context_switches)
        return Reading({"load_1m": times.load_1m}, counters)

    def close(self) -> None:
        """Nothing is open."""


SENSORS.add(Proc())


@dataclass(frozen=True)
class CpuTimes:
    """Totals over all processors since boot, in seconds, and this process's own CPU time.

    ``context_switches`` are the machine's, ``voluntary`` and ``involuntary`` those of all threads
    of this process: it waited for something, or the scheduler gave its processor to another.
    """

    wall_s: float
    busy_s: float
    steal_s: float
    own_s: float
    load_1m: float
    context_switches: int | None = None
    voluntary: int = 0
    involuntary: int = 0


@dataclass(frozen=True)
class Interference:
    """Processor time that other processes and machines took during a window.

    ``own_cpu_s`` is processor time of this process and of its children that ended.
    ``foreign_cpu_s`` is processor time of other processes (busy time of the machine less
    ``own_cpu_s``), ``steal_s`` the time in which the hypervisor ran other machines, both over all
    processors. ``involuntary_switches`` counts how often a thread of this process lost its
    processor to another, ``voluntary_switches`` how often one waited (for a lock, a device, another
    thread).
    """

    seconds: Amount
    foreign_cpu_s: Amount
    steal_s: Amount
    load_1m_before: Amount
    load_1m_after: Amount
    own_cpu_s: Amount | None = None
    voluntary_switches: Count | None = None
    involuntary_switches: Count | None = None

    def contended(self) -> bool:
        """True if steal is over 5 %, or others took over 25 %, of one processor for certain.

        What the ticks of the clock alone can add to a short window does not count.
        """
        return (
            self.steal_s - TICK_S > STEAL_SHARE * self.seconds
            or self.foreign_cpu_s - 2 * TICK_S > FOREIGN_SHARE * self.seconds
        )


def parse_stat(text: str, ticks_per_second: int) -> tuple[float, float]:
    """Return (busy seconds, steal seconds) of the first line of /proc/stat."""
    fields = [int(value) for value in text.split("\n", 1)[0].split()[1:]]
    busy = sum(fields[i] for i in (_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ))
    steal = fields[_STEAL] if len(fields) > _STEAL else 0
    return busy / ticks_per_second, steal / ticks_per_second


def parse_switches(text: str) -> int | None:
    """Context switches of the machine since boot: the line ``ctxt`` of /proc/stat."""
    for line in text.splitlines():
        if line.startswith("ctxt "):
            return int(line.split()[1])
    return None


def read_cpu_times() -> CpuTimes | None:
    """Read the counters now; None if the system lacks them."""
    import resource

    try:
        text = _PROC_STAT.read_text()
        busy, steal = parse_stat(text, os.sysconf("SC_CLK_TCK"))
        switches = parse_switches(text)
    except (OSError, ValueError, IndexError):
        return None
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return CpuTimes(time.monotonic(), busy, steal, own, os.getloadavg()[0], switches,
                    usage.ru_nvcsw, usage.ru_nivcsw)  # fmt: skip


def between(before: CpuTimes | None, after: CpuTimes | None) -> Interference | None:
    """Interference between two readings; rounding of the clock tick never makes it negative."""
    if before is None or after is None:
        return None
    own = after.own_s - before.own_s
    foreign = (after.busy_s - before.busy_s) - own
    return Interference(
        seconds=after.wall_s - before.wall_s,
        foreign_cpu_s=max(0.0, foreign),
        steal_s=max(0.0, after.steal_s - before.steal_s),
        load_1m_before=before.load_1m,
        load_1m_after=after.load_1m,
        own_cpu_s=own,
        voluntary_switches=after.voluntary - before.voluntary,
        involuntary_switches=after.involuntary - before.involuntary,
    )
