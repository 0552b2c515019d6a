"""Environment fingerprint: the facts of this machine, recorded once a run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cspbench.core.git import commit_of
from cspbench.errors import Unavailable
from cspbench.machine import gpu_state, quotas
from cspbench.machine.cuda_device import first_device
from cspbench.machine.sensors.tegra import clocks_locked, nvpmodel_mode
from cspbench.machine.sysfs import read_text

#: Distributions whose versions are always recorded, besides those of the backends.
DISTRIBUTIONS = (
    "cspbench", "torch", "numpy", "opencv-python-headless", "opencv-python",
    "opencv-contrib-python", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "pandas",
    "jetson-stats", "nvidia-ml-py",
)  # fmt: skip
#: Modules of these distributions: searching for the distribution of a module takes long.
_KNOWN_MODULES = frozenset({"cv2", *DISTRIBUTIONS})
#: Files of a distribution that tell how it was installed.
_WRITTEN_BY_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
#: Characters of a digest of a library.
DIGEST_CHARACTERS = 16
#: Instruction sets that inference kernels choose by.
SIMD_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8", "asimd", "sve")


def fingerprint(libraries: Iterable[str], folder: Path | None = None) -> dict[str, Any]:
    """Return the facts of this machine; unknown ones are None.

    ``machine/comparability.py`` says for each use which of them must be equal.

    Args:
        libraries: libraries of the backends (``backends.spec.libraries``), for their versions.
        folder: folder of the suite; the git commit of its repository is recorded.
    """
    device, card = gpu(), gpu_card()
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
        "libraries": (versions := library_versions(libraries)),
        "library_digests": library_digests(versions),
        "git_commit": commit_of(folder or Path.cwd()),
        "board": read_text("/proc/device-tree/model"),
        "l4t": read_text("/etc/nv_tegra_release"),
        "nvpmodel": nvpmodel_mode(),
        "jetson_clocks": clocks_locked(),
        "nvidia_driver": read_text("/sys/module/nvidia/version") or card.driver,
        "gpu": device.get("device"),
        "gpu_uuid": device.get("device_uuid"),
        "gpu_settings": gpu_state.settings(),
        **card.facts(),
    }


@functools.cache
def gpu() -> dict[str, str]:
    """``device`` and ``device_uuid`` of the CUDA device of workers; empty without a driver."""
    # As workers count: by the bus (`runner/process.py`). CUDA's own order is by speed, so that on a
    # machine of different cards another one would be named.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return first_device()


@functools.cache
def gpu_card() -> gpu_state.GpuState:
    """Settings of that device; all unknown without NVML."""
    with contextlib.suppress(Unavailable):
        return gpu_state.read_state()
    return gpu_state.GpuState()


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
    """Frequency governor of processor 0; None if the system has none (a virtual machine)."""
    return read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cgroup_cpu_quota() -> float | None:
    """Processors that the control groups of this process allow it, None without a limit."""
    return quotas.cpu_quota()


def default_threads() -> int:
    """Most threads that can compute at the same time: of the usable processors and the quota."""
    quota = cgroup_cpu_quota()
    return usable_cores() if quota is None else max(1, min(usable_cores(), int(quota)))


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
    """True in a virtual machine; None if unknown."""
    flags = _cpuinfo("flags")
    return None if flags is None else "hypervisor" in flags.split()


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of installed distributions: those of DISTRIBUTIONS and of ``libraries``.

    Args:
        libraries: names of more distributions, or of modules, which may have other names.
    """
    versions = {}
    more = [name for module in libraries for name in _distributions_of(module)]
    for name in dict.fromkeys([*DISTRIBUTIONS, *sorted(more)]):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def library_digests(names: Iterable[str]) -> dict[str, str]:
    """By distribution, a digest of the hashes of its files: two builds of one version differ.

    The hashes are those that the installer recorded ("Recording installed projects", Python
    Packaging User Guide); what an installation writes itself is left out. A distribution without
    such a record, and one that is edited in place, have none.
    """
    digests = {name: _digest_of(name) for name in names}
    return {name: digest for name, digest in digests.items() if digest is not None}


@functools.cache
def _digest_of(name: str) -> str | None:
    """The digest of a distribution: its record has thousands of lines, and stays as it is."""
    distribution = importlib.metadata.distribution(name)
    record = distribution.read_text("RECORD") or ""
    lines = [line for line in record.splitlines() if _is_content(line)]
    if not lines or _is_editable(distribution):
        return None
    text = "\n".join(sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Whether its code is a folder of the user, which no record describes (PEP 610)."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable", False))
    except (AttributeError, ValueError):
        return False


def _is_content(line: str) -> bool:
    """Whether a line of a RECORD is a file of the wheel; scripts hold the path of the Python."""
    file, _, rest = line.partition(",")
    apart = file.startswith("..") or file.rpartition("/")[2] in _WRITTEN_BY_INSTALLERS
    return "sha256=" in rest and not apart


@functools.cache
def _distributions_of(module: str) -> list[str]:
    """Distributions that have a module's name or contain it; empty for a module without one.

    Only unknown names are searched, because reading all installed distributions takes a tenth of a
    second. ``importlib.metadata.packages_distributions`` takes longer, and with Python 3.10 it
    lists only those that declare their modules.
    """
    if module in _KNOWN_MODULES:
        return []
    try:
        return [importlib.metadata.distribution(module).name]
    except importlib.metadata.PackageNotFoundError:
        installed = importlib.metadata.distributions()
        return sorted({one.name for one in installed if _contains(one, module)})


def _contains(distribution: importlib.metadata.Distribution, module: str) -> bool:
    if module in (distribution.read_text("top_level.txt") or "").split():
        return True
    files = distribution.read_text("RECORD") or ""
    return re.search(rf"^{re.escape(module)}[/.]", files, re.MULTILINE) is not None
