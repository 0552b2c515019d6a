"""Measures the peak memory of a worker, in a launch of its own because it slows a model down.

The kernel keeps the high-water mark of a process's resident memory (``VmHWM``). Writing 5 to
``/proc/self/clear_refs`` resets it to the bytes that are resident now (proc(5)), so the peak of a
piece of work can be read without sampling. ``MALLOC_ENVIRONMENT`` makes glibc return every freed
block of a page or more at once, so the peak of a second forward pass is that of its activations.

Memory of a device is measured in two ways. The session counts it (``DeviceMemory``; torch's caching
allocator counts tensors: weights, workspace, activations). The driver (NVML; NvMap on a Tegra
board) counts the whole process with its context and libraries. On a Tegra board both are part of
the memory that the processor shares, but not of the resident memory of the process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends.spec import DeviceMemory, ReservesMemory, Session
from cspbench.core.bounds import Count

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed

#: Settings of glibc, which must be set before the process starts.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0"}
METHOD = "VmHWM after clear_refs"
#: Inferences on a device after the first, before its memory is looked at.
RECORDING_RUNS = 2
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
#: Bytes of each process in a Tegra board's memory for its devices; only root may read it.
_NVMAP = Path("/sys/kernel/debug/nvmap/iovmm/clients")


def unavailable() -> str | None:
    """Why this system cannot measure a peak; None if it can."""
    if not _CLEAR_REFS.exists():
        return "this system has no /proc/self/clear_refs"
    return None


@dataclass(frozen=True)
class MemoryUse:
    """Bytes above the level before the model was loaded, by purpose (see `measure`).

    Unknown ones are None; ``method`` names the method of measurement.
    """

    peak_memory_bytes: Count | None = None
    loaded_bytes: Count | None = None
    retained_bytes: Count | None = None
    transient_bytes: Count | None = None
    device_peak_bytes: Count | None = None
    device_first_peak_bytes: Count | None = None
    device_loaded_bytes: Count | None = None
    device_retained_bytes: Count | None = None
    device_transient_bytes: Count | None = None
    device_pool_bytes: Count | None = None
    device_workspace_bytes: Count | None = None
    device_reserved_bytes: Count | None = None
    device_process_bytes: Count | None = None
    device_taken_bytes: Count | None = None
    method: str | None = None

    @classmethod
    def bytes_names(cls) -> list[str]:
        """Its fields that are bytes."""
        return [item.name for item in fields(cls) if item.name != "method"]


@dataclass(frozen=True)
class Resident:
    """Resident memory of this process now, and its peak since the last reset, in bytes."""

    now_bytes: int
    peak_bytes: int


def parse_status(text: str) -> Resident:
    """Read VmRSS and VmHWM (in KiB) from the text of /proc/PID/status."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kib = {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}
    return Resident(kib["VmRSS"] * 1024, kib["VmHWM"] * 1024)


def resident() -> Resident:
    """Resident memory of this process."""
    return parse_status(_STATUS.read_text())


def reset_peak() -> int:
    """Reset the high-water mark; return the bytes that are resident now."""
    gc.collect()
    _CLEAR_REFS.write_text(_RESET_PEAK)
    return resident().now_bytes


def process_bytes_on_device(pid: int) -> int | None:
    """Bytes that the driver counts for a process on its device; None if unknown."""
    from cspbench.machine.sensors.nvml import used_by

    counted = used_by(pid)
    if counted is not None:
        return counted
    try:
        return parse_nvmap(_NVMAP.read_text(), pid)
    except OSError:  # no Tegra board, or not root
        return None


def taken_on_device() -> int | None:
    """Bytes of the device's memory that the driver counts as taken; None if unknown."""
    from cspbench.machine.sensors.nvml import used_bytes

    return used_bytes()


def parse_nvmap(text: str, pid: int) -> int | None:
    """Bytes of a process in NvMap's list: client, process, number, size in KiB (``1234K``)."""
    sizes = [
        int(fields[-1][:-1]) * 1024
        for line in text.splitlines()
        if len(fields := line.split()) >= 4
        and fields[-2] == str(pid)
        and fields[-1].endswith("K")
        and fields[-1][:-1].isdigit()
    ]
    return sum(sizes) if sizes else None


def measure(load: Callable[[], Session], inputs: Sequence[Feed]) -> MemoryUse:
    """Load a model and run it twice, on a device more often, and measure resident memory.

    Args:
        load: loads the model; its library is imported already.
        inputs: two inputs that exist already.

    Returns:
        bytes above the level before the model was loaded: ``peak_memory_bytes`` over loading and
        both runs; ``loaded_bytes`` after loading (weights and their packed copies);
        ``retained_bytes``, additional after the first run (workspace and activations that the
        backend keeps); ``transient_bytes``, additional at the peak of the second run (activations
        that it frees again). Negative differences count as 0.

        If the session counts the memory of a device, also ``device_loaded_bytes``,
        ``device_retained_bytes`` and ``device_transient_bytes``; ``device_peak_bytes``, the peak
        of the second run and what waits in private pools; and ``device_first_peak_bytes`` up to the
        end of the first run, in which libraries try algorithms. If the driver lists this process,
        also ``device_process_bytes``; ``device_taken_bytes`` is by how much the memory grew that
        the driver counts as taken, which is this process's on a device without others.
    """
    taken_before = taken_on_device()
    baseline = reset_peak()
    session = load()
    gc.collect()
    loaded = resident().now_bytes
    device = session if isinstance(session, DeviceMemory) else None
    device_loaded = device.device_used_bytes() if device else 0
    session.set_input(inputs[0])
    session.run()
    first = resident()
    session.set_input(inputs[1])
    if device:  # torch.compile records a graph in the second run and replays it in the third
        for _ in range(RECORDING_RUNS):
            session.run()
    before = reset_peak()
    device_peak, device_before = 0, 0
    if device:
        device_peak, device_before = device.device_peak_bytes(), device.device_used_bytes()
        device.reset_device_peak()
    session.run()
    second = resident()
    sizes = {
        "peak_memory_bytes": max(0, first.peak_bytes - baseline, second.peak_bytes - baseline),
        "loaded_bytes": max(0, loaded - baseline),
        "retained_bytes": max(0, before - loaded),
        "transient_bytes": second.peak_bytes - before,
    }
    if device:
        second_peak = device.device_peak_bytes()
        reserved = session.device_reserved() if isinstance(session, ReservesMemory) else {}
        taken = taken_on_device()
        if taken is not None and taken_before is not None:
            sizes["device_taken_bytes"] = max(0, taken - taken_before)
        sizes |= reserved
        sizes |= {
            "device_peak_bytes": second_peak + reserved.get("device_pool_bytes", 0),
            "device_first_peak_bytes": max(device_peak, second_peak),
            "device_loaded_bytes": device_loaded,
            "device_retained_bytes": max(0, device_before - device_loaded),
            "device_transient_bytes": max(0, second_peak - device_before),
        }
    process = process_bytes_on_device(os.getpid())
    if process is not None:
        sizes["device_process_bytes"] = process
    session.close()
    return MemoryUse(**sizes, method=METHOD)
