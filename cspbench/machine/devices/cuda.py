"""An NVIDIA GPU: a card, or that of a Jetson board."""

from __future__ import annotations

import importlib.util
import re
from contextlib import AbstractContextManager
from pathlib import Path

from cspbench.machine.devices.spec import DEVICES, Device, PowerSource, Probe
from cspbench.machine.sensors.nvml import THROTTLED, free_bytes, used_by

#: A process's CUDA context with the kernels of cuDNN and cuBLAS, their workspaces, and what a
#: caching allocator holds beyond its tensors. An allowance: it was not measured.
PROCESS_BYTES = 2**30

_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def torch_cuda_version() -> str | None:
    """CUDA version that the installed torch was built for, read without importing torch.

    Returns:
        such as "12.8", or None: no torch, or one without CUDA.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def on_tegra() -> bool:
    """True on an NVIDIA Jetson board (L4T)."""
    return _TEGRA_RELEASE.exists()


def nvidia_driver_loaded() -> bool:
    """True if a CUDA driver is loaded: that of a desktop, a server or a board.

    Some sandboxes show only the driver's device file; Windows' Linux has a device file of its own.
    """
    return on_tegra() or any(path.exists() for path in _DRIVER)


def available() -> str | None:
    """Requires a driver, and a torch that was built for CUDA."""
    if not nvidia_driver_loaded():
        return "no NVIDIA driver is loaded"
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    if torch_cuda_version() is None:
        return "the installed PyTorch was built without CUDA"
    return None


def probe(threads: int) -> AbstractContextManager[Probe]:
    """Open torch's operators on the first visible device."""
    from cspbench.machine.devices._torch import opened

    return opened("cuda", threads, ("fp32", "tf32", "fp16", "bf16"), 8192, {})


DEVICES.add(
    Device(
        name="cuda",
        summary="an NVIDIA GPU",
        # NVML renews its counter within 100 ms. A CPU's counter does not include the GPU.
        power=(
            PowerSource("gpu_energy_j", 0.1),
            PowerSource("board_power_w"),
            PowerSource("rails_power_w"),
            PowerSource("gpu_power_w"),
        ),
        clocks=("cpu_frequency_max_mhz", "gpu_clock_mhz"),
        throttle_gauges=("gpu_throttled",),
        throttle_counters=THROTTLED,
        process_bytes=PROCESS_BYTES,
        free_bytes=free_bytes,
        held_by=used_by,
        probe=probe,
        available=available,
    )
)
