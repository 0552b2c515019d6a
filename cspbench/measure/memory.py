"""Peak memory of a worker, in a launch of its own (its allocator settings slow a model down).

The kernel keeps the high-water mark of a process's resident memory (``VmHWM``), and writing 5 to
``/proc/self/clear_refs`` sets it back to what is resident now (proc(5)): so the peak of any stretch
of work can be read without sampling. With glibc told to give every freed block of a page or more
back at once (``MALLOC_ENVIRONMENT``), the peak of a second forward pass is that of its activations.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends.spec import DeviceMemory, Session

if TYPE_CHECKING:
    import numpy as np

#: What glibc must be told before the process starts.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0"}
METHOD = "VmHWM after clear_refs"
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def unavailable() -> str | None:
    """Why this system cannot tell a peak; None if it can."""
    if not _CLEAR_REFS.exists():
        return "this system has no /proc/self/clear_refs"
    return None


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


def measure(load: Callable[[], Session], inputs: Sequence[np.ndarray]) -> dict[str, int]:
    """Load a model and run it twice, watching resident memory.

    Args:
        load: loads the model; its library is imported already.
        inputs: two inputs, made already.

    Returns:
        in bytes, above the level before the model was loaded: ``peak_memory_bytes`` over
        everything; ``loaded_bytes`` once the model is loaded (weights and what was packed of them);
        ``retained_bytes`` more once it has run (workspace and activations that the backend keeps);
        ``transient_bytes`` at the peak of the second run on top (activations that it frees again);
        and ``device_peak_bytes`` where the session can tell of a device.
    """
    baseline = reset_peak()
    session = load()
    loaded = resident().now_bytes
    session.set_input(inputs[0])
    session.run()
    first = resident()
    session.set_input(inputs[1])
    before = reset_peak()
    session.run()
    second = resident()
    found = {
        "peak_memory_bytes": max(first.peak_bytes, second.peak_bytes) - baseline,
        "loaded_bytes": loaded - baseline,
        "retained_bytes": before - loaded,
        "transient_bytes": second.peak_bytes - before,
    }
    if isinstance(session, DeviceMemory):
        found["device_peak_bytes"] = session.device_peak_bytes()
    session.close()
    return found
