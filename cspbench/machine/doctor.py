"""Checks of this machine for conditions that spoil measurements; each warning has a remedy.

A check is a function that reads the system and returns results. It changes nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cspbench.core.cache import cache_folder, nearest_existing
from cspbench.errors import InputError
from cspbench.machine import facts as environment
from cspbench.machine import quotas
from cspbench.machine.check_result import CheckResult
from cspbench.machine.doctor_gpu import gpu
from cspbench.machine.sensors.proc import between, read_cpu_times
from cspbench.machine.sensors.tegra import clocks_locked, nvpmodel_mode
from cspbench.machine.sensors.thermal import hottest_c
from cspbench.machine.sysfs import read_number, read_text

_CPU = Path("/sys/devices/system/cpu")
#: How long steal and foreign load are measured.
WATCH_SECONDS = 1.0


#: Folder of the system -> what is not known without it.
_SYSTEM_FILES = {
    "proc": "the processor, the memory of workers, foreign load and the faults of pages",
    "sys": "clocks, temperatures, caches and limits of the container",
}
Check = Callable[[], Iterator[CheckResult]]


def examine() -> list[CheckResult]:
    """Run every check of the machine."""
    return [result for check in CHECKS for result in check()]


def processor() -> Iterator[CheckResult]:
    """Model, cores, whether it is virtual, and its clock source."""
    usable = environment.usable_cores()
    cores = (
        f"{environment.cpu_model() or 'unknown'}, {usable} of {os.cpu_count()} processors usable"
    )
    yield CheckResult("processor", cores, "good")
    if environment.virtualised():
        yield CheckResult(
            "virtual machine", "yes", "warn",
            "neighbours on the host move latencies; compare only runs that were interleaved",
        )  # fmt: skip
    source = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source:
        slow = source not in ("tsc", "kvm-clock", "arch_sys_counter")
        remedy = "reading this clock costs microseconds; boot with clocksource=tsc" if slow else ""
        yield CheckResult("clock source", source, "warn" if slow else "good", remedy)


def frequency() -> Iterator[CheckResult]:
    """Governor and turbo."""
    governor = environment.governor()
    if governor is None:
        yield CheckResult("governor", "not visible here", "info")
    else:
        steady = governor == "performance"
        remedy = "" if steady else "sudo cpupower frequency-set -g performance"
        yield CheckResult("governor", governor, "good" if steady else "warn", remedy)
    no_turbo, boost = read_text(_CPU / "intel_pstate/no_turbo"), read_text(_CPU / "cpufreq/boost")
    if no_turbo is None and boost is None:
        yield CheckResult("turbo", "not visible here", "info")
        return
    turbo = no_turbo == "0" if no_turbo is not None else boost == "1"
    path = f"{_CPU}/intel_pstate/no_turbo" if no_turbo is not None else f"{_CPU}/cpufreq/boost"
    off = "1" if no_turbo is not None else "0"
    yield CheckResult(
        "turbo", "on" if turbo else "off", "warn" if turbo else "good",
        f"clocks vary with heat: echo {off} | sudo tee {path}" if turbo else "",
    )  # fmt: skip


def smt() -> Iterator[CheckResult]:
    """Two hardware threads on a core share its units."""
    active = read_text(_CPU / "smt/active")
    if active is None:
        yield CheckResult("SMT", "not visible here", "info")
    else:
        yield CheckResult(
            "SMT", "on" if active == "1" else "off", "warn" if active == "1" else "good",
            "a neighbour thread halves a core: use at most one thread a core, or "
            f"echo off | sudo tee {_CPU}/smt/control" if active == "1" else "",
        )  # fmt: skip


def load() -> Iterator[CheckResult]:
    """Load average, and the time that other processes and the hypervisor take in one second."""
    before = read_cpu_times()
    time.sleep(WATCH_SECONDS)
    window = between(before, read_cpu_times())
    if window is None:
        yield CheckResult("load", "not visible here", "info")
        return
    busy = window.foreign_cpu_s / window.seconds
    yield CheckResult(
        "other processes", f"{busy:.2f} processors (load average {window.load_1m_after:.2f})",
        "warn" if busy > 0.25 else "good",
        "stop the other programs (see top)" if busy > 0.25 else "",
    )  # fmt: skip
    steal = window.steal_s / window.seconds
    yield CheckResult(
        "steal", f"{steal:.2f} processors", "warn" if steal > 0.05 else "good",
        "the host is overcommitted: use another host or another hour" if steal > 0.05 else "",
    )  # fmt: skip


def heat() -> Iterator[CheckResult]:
    """Temperatures and throttle counts since boot."""
    degrees = hottest_c()
    if degrees is None:
        yield CheckResult("temperature", "not visible here", "info")
    else:
        hot = degrees > 85
        remedy = "cool the machine before measuring" if hot else ""
        yield CheckResult("temperature", f"{degrees:.0f} °C", "warn" if hot else "good", remedy)
    counts = _CPU.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    throttled = sum(read_number(path) or 0 for path in counts)
    if throttled:
        yield CheckResult(
            "throttling", f"{throttled:.0f} events since boot", "warn", "improve the cooling"
        )  # fmt: skip


def power() -> Iterator[CheckResult]:
    """Mains or battery."""
    for supply in Path("/sys/class/power_supply").glob("*/online"):
        mains = read_text(supply) == "1"
        remedy = "" if mains else "plug the machine in: batteries lower clocks"
        yield CheckResult(
            "power", "mains" if mains else "battery", "good" if mains else "warn", remedy
        )
        break


def jetson(root: Path = Path("/")) -> Iterator[CheckResult]:
    """Name, power mode and clock lock of a Jetson board; ``root`` is the folder of ``/etc``."""
    if read_text(root / "etc/nv_tegra_release") is None:
        return
    name = read_text(root / "proc/device-tree/model")
    if name:
        yield CheckResult("Jetson board", name, "good")
    yield CheckResult(
        "Jetson power mode", nvpmodel_mode() or "unknown to nvpmodel -q", "info",
        "it bounds every clock: choose it with sudo nvpmodel -m, and state it with the numbers",
    )  # fmt: skip
    locked = clocks_locked(root / "sys")
    if locked is None:
        yield CheckResult("Jetson clocks", "not visible here", "info")
    elif locked:
        yield CheckResult("Jetson clocks", "locked", "good")
    else:
        yield CheckResult(
            "Jetson clocks", "not locked", "warn", "sudo jetson_clocks, after each boot"
        )


def threads() -> Iterator[CheckResult]:
    """Thread settings of the environment; workers get their own."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_PROC_BIND")
    settings = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    yield CheckResult(
        "thread settings", ", ".join(settings) or "none set", "info",
        "workers set their own from the suite's threads" if settings else "",
    )  # fmt: skip


def container() -> Iterator[CheckResult]:
    """Limits of the control group."""
    quota = environment.cgroup_cpu_quota()
    if quota is not None:
        yield CheckResult(
            "container CPU quota", f"{quota:g} processors", "warn",
            "a quota stops all threads for the rest of a period: measure without one",
        )  # fmt: skip
    limit = quotas.memory_limit()
    if limit is not None:
        yield CheckResult("container memory", f"{limit / 2**30:.1f} GiB", "info")


def system_files(root: Path = Path("/")) -> Iterator[CheckResult]:
    """What a container leaves out, and what cannot be known without it; where the cache lies."""
    for name, lacking in _SYSTEM_FILES.items():
        if not any((root / name).glob("*")):
            yield CheckResult(
                f"/{name}", "missing", "warn",
                f"without it cspbench does not know {lacking}: mount it into the container",
            )  # fmt: skip


def cache() -> Iterator[CheckResult]:
    """Where artifacts are kept, and whether that folder can be written."""
    try:
        folder = cache_folder()
    except InputError as error:
        yield CheckResult("cache", "not safe", "warn", str(error))
        return
    written = os.access(nearest_existing(folder), os.W_OK | os.X_OK)
    yield CheckResult(
        "cache", f"{folder}" if written else f"{folder} cannot be written",
        "good" if written else "warn",
        "" if written else "a run keeps its artifacts there: name another folder in CSPBENCH_CACHE",
    )  # fmt: skip


def memory() -> Iterator[CheckResult]:
    """Free memory, swap and disk."""
    import psutil

    try:
        virtual, swap = psutil.virtual_memory(), psutil.swap_memory()
    except (OSError, RuntimeError):  # without /proc
        yield CheckResult("memory", "not visible here", "info")
        return
    short = virtual.available < 2 * 2**30
    yield CheckResult(
        "memory", f"{virtual.available / 2**30:.1f} of {virtual.total / 2**30:.1f} GiB available",
        "warn" if short else "good", "close programs: large models will swap" if short else "",
    )  # fmt: skip
    if swap.used > 64 * 2**20:
        used = f"{swap.used / 2**20:.0f} MiB used"
        yield CheckResult("swap", used, "warn", "swapping ruins latencies: free memory first")
    free = shutil.disk_usage(Path.cwd()).free
    full = free < 2**30
    remedy = "free some space: artifacts and runs need it" if full else ""
    yield CheckResult(
        "disk", f"{free / 2**30:.1f} GiB free here", "warn" if full else "good", remedy
    )


CHECKS: tuple[Check, ...] = (
    processor, frequency, smt, load, heat, power, gpu, jetson, threads, container, system_files,
    cache, memory,
)  # fmt: skip
