"""Environment fingerprint: what this machine is, once a run."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from cspbench.machine.cuda_device import first_device
from cspbench.machine.sensors.tegra import clocks_locked, nvpmodel_mode
from cspbench.machine.sysfs import read_text

#: Libraries whose version can move a number.
LIBRARIES = (
    "cspbench", "torch", "numpy", "opencv-python-headless", "opencv-python",
    "opencv-contrib-python", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "pandas",
    "jetson-stats", "nvidia-ml-py",
)  # fmt: skip
#: Instruction sets that inference kernels choose by.
SIMD_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8", "asimd", "sve")


def fingerprint(folder: Path | None = None) -> dict[str, Any]:
    """Return the facts that decide whether two runs can be compared; unknown ones are None.

    Args:
        folder: where the suite lies; the git commit of its repository is recorded.
    """
    return {
        "cpu": cpu_model(),
        "cpu_flags": simd_flags(),
        "cores_logical": os.cpu_count(),
        "cores_usable": usable_cores(),
        "cpu_quota": cgroup_cpu_quota(),
        "governor": governor(),
        "memory_bytes": _memory_bytes(),
        "os": _os_name(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "virtualised": virtualised(),
        "host": platform.node(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "git_commit": git_commit(folder or Path.cwd()),
        "board": read_text("/proc/device-tree/model"),
        "l4t": read_text("/etc/nv_tegra_release"),
        "nvpmodel": nvpmodel_mode(),
        "jetson_clocks": clocks_locked(),
        "nvidia_driver": read_text("/sys/module/nvidia/version"),
        "gpu": gpu(),
    }


@functools.cache
def gpu() -> str | None:
    """Name and UUID of the first CUDA device that is visible; None without a driver."""
    found = first_device()
    return f"{found['device']} ({found['device_uuid']})" if found else None


def _cpuinfo(field: str) -> str | None:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return None


def cpu_model() -> str | None:
    """Model name as the kernel reports it."""
    return (
        _cpuinfo("model name")
        or read_text("/proc/device-tree/model")
        or platform.processor()
        or None
    )


def simd_flags() -> list[str]:
    """Instruction sets of SIMD_FLAGS that the processor has."""
    present = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return [flag for flag in SIMD_FLAGS if flag in present]


def governor() -> str | None:
    """Frequency governor of processor 0, or None where the system has none (a virtual machine)."""
    return read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cgroup_cpu_quota() -> float | None:
    """Processors that the container may use (cgroup v2 ``cpu.max``), None without a limit."""
    quota, _, period = (read_text("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def usable_cores() -> int:
    """Processors that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def virtualised() -> bool | None:
    """True in a virtual machine; None where the system does not tell."""
    flags = _cpuinfo("flags")
    return None if flags is None else "hypervisor" in flags.split()


def library_versions() -> dict[str, str]:
    """Versions of the installed ones among LIBRARIES."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit(folder: Path) -> str | None:
    """Commit of the repository that holds ``folder``, with ``-dirty`` if it was changed."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
