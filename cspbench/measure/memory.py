"""Peak memory of a worker, in a launch of its own (its allocator settings slow a model down).

The kernel keeps the high-water mark of a process's resident memory (``VmHWM``), and writing 5 to
``/proc/self/clear_refs`` sets it back to what is resident now (proc(5)): so the peak of any stretch
of work can be read without sampling. With glibc told to give every freed block of a page or more
back at once (``MALLOC_ENVIRONMENT``), the peak of a second forward pass is that of its activations.

Memory of a CUDA device is told twice: by torch's caching allocator, which counts tensors (weights,
workspace, activations) and has a peak of its own, and by the driver (NVML; NvMap on a Tegra board),
which counts the process as a whole with the context and what libraries take. On a Tegra board both
lie in the one memory that the processor has too, and are not in the resident memory of the process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends.spec import DeviceMemory, Session
from cspbench.core.bounds import Count

if TYPE_CHECKING:
    import numpy as np

#: What glibc must be told before the process starts.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0"}
METHOD = "VmHWM after clear_refs"
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
#: Which process holds how much of a Tegra board's memory for its devices; for root only.
_NVMAP = Path("/sys/kernel/debug/nvmap/iovmm/clients")


def unavailable() -> str | None:
    """Why this system cannot tell a peak; None if it can."""
    if not _CLEAR_REFS.exists():
        return "this system has no /proc/self/clear_refs"
    return None


@dataclass(frozen=True)
class MemoryUse:
    """Bytes above the level before the model was loaded, by what they are for (see `measure`).

    None where nothing tells them; ``method`` says how they were obtained.
    """

    peak_memory_bytes: Count | None = None
    loaded_bytes: Count | None = None
    retained_bytes: Count | None = None
    transient_bytes: Count | None = None
    device_peak_bytes: Count | None = None
    device_loaded_bytes: Count | None = None
    device_retained_bytes: Count | None = None
    device_transient_bytes: Count | None = None
    device_process_bytes: Count | None = None
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
    """Set the high-water mark back; return the bytes that are resident now."""
    gc.collect()
    _CLEAR_REFS.write_text(_RESET_PEAK)
    return resident().now_bytes


class Allocator:
    """torch's caching allocator on the current CUDA device; all zero before CUDA is used."""

    @staticmethod
    def used() -> int:
        """Bytes of tensors now."""
        import torch

        return int(torch.cuda.memory_allocated())

    @staticmethod
    def reset() -> None:
        """Begin a new peak at what is used now."""
        import torch

        torch.cuda.reset_peak_memory_stats()

    @staticmethod
    def peak() -> int:
        """Most bytes of tensors since the last reset."""
        import torch

        return int(torch.cuda.max_memory_allocated())


def process_bytes_on_device(pid: int) -> int | None:
    """Bytes that the driver counts for a process on its device; None where nobody tells."""
    from cspbench.machine.sensors.nvml import used_by

    found = used_by(pid)
    if found is not None:
        return found
    try:
        return parse_nvmap(_NVMAP.read_text(), pid)
    except OSError:  # no Tegra board, or not root
        return None


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


def measure(load: Callable[[], Session], inputs: Sequence[np.ndarray]) -> MemoryUse:
    """Load a model and run it twice, watching resident memory.

    Args:
        load: loads the model; its library is imported already.
        inputs: two inputs, made already.

    Returns:
        in bytes, above the level before the model was loaded: ``peak_memory_bytes`` over
        everything; ``loaded_bytes`` once the model is loaded (weights and what was packed of them);
        ``retained_bytes`` more once it has run (workspace and activations that the backend keeps);
        ``transient_bytes`` at the peak of the second run on top (activations that it frees again).
        What is given back counts as 0. Where the session's memory lies on a CUDA device also
        ``device_peak_bytes``, ``device_loaded_bytes``, ``device_retained_bytes`` and
        ``device_transient_bytes`` by the caching allocator; and ``device_process_bytes`` where the
        driver tells of this process.
    """
    baseline = reset_peak()
    session = load()
    gc.collect()
    loaded = resident().now_bytes
    device = Allocator if isinstance(session, DeviceMemory) else None
    device_loaded = device.used() if device else 0
    session.set_input(inputs[0])
    session.run()
    first = resident()
    session.set_input(inputs[1])
    before = reset_peak()
    device_peak, device_before = 0, 0
    if device:
        device_peak, device_before = device.peak(), device.used()
        device.reset()
    session.run()
    second = resident()
    found = {
        "peak_memory_bytes": max(0, first.peak_bytes - baseline, second.peak_bytes - baseline),
        "loaded_bytes": max(0, loaded - baseline),
        "retained_bytes": max(0, before - loaded),
        "transient_bytes": second.peak_bytes - before,
    }
    if device:
        found |= {
            "device_peak_bytes": max(device_peak, device.peak()),
            "device_loaded_bytes": device_loaded,
            "device_retained_bytes": max(0, device_before - device_loaded),
            "device_transient_bytes": device.peak() - device_before,
        }
    process = process_bytes_on_device(os.getpid())
    if process is not None:
        found["device_process_bytes"] = process
    session.close()
    return MemoryUse(**found, method=METHOD)
