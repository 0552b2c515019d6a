"""NVIDIA GPUs through NVML (module pynvml of the package nvidia-ml-py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cspbench.machine.sensors.spec import SENSORS, Reader, Reading

#: Bits of nvmlClocksEventReasons (nvml.h) that mean throttling: the device protects itself, for
#: the hardware bits by halving its clocks or worse. Idle clocks and clocks set by a user are not
#: among them.
THROTTLE_BITS = {
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
#: The driver lowers the clocks so that the power limit is not exceeded. Large devices work like
#: that under full load, so it is reported but is no throttling. A clock that falls in the window
#: is throttling.
POWER_CAP_BITS = {0x4: "power cap", 0x200: "board limit"}


@dataclass(frozen=True)
class Nvml:
    """Spec of the sensor: the first device, or that of ``CUDA_VISIBLE_DEVICES``'s first entry."""

    name: str = "nvml"
    summary: str = "utilisation, memory, clocks, throttling, temperature, power, energy of a GPU"
    rate_hz: float = 10.0
    on_request: bool = False

    def available(self) -> str | None:
        """The driver's library must load and list a device."""
        try:
            import pynvml
        except ImportError:
            return "pynvml is not installed (pip install nvidia-ml-py)"
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            return f"NVML reports: {error}"
        return None if count else "NVML lists no device"

    def open(self) -> Reader:
        """Open the device."""
        import pynvml

        pynvml.nvmlInit()
        return NvmlReader(pynvml, _device(pynvml))


def _device(nvml: Any) -> Any:
    """The device that CUDA uses first: the variable holds its index, its UUID or a part of it."""
    import os

    entry = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    if entry.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(entry))
    if entry.startswith("GPU-"):  # CUDA accepts the beginning of a UUID as well
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            if _text(nvml.nvmlDeviceGetUUID(device)).startswith(entry):
                return device
    return nvml.nvmlDeviceGetHandleByUUID(entry)


def _text(value: str | bytes) -> str:
    """Old versions of pynvml give bytes."""
    return value.decode() if isinstance(value, bytes) else value


class NvmlReader:
    """Reads one device; quantities that it does not support are left out."""

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml = nvml
        self._device = device

    def read(self) -> Reading:
        nvml, device = self._nvml, self._device
        gauges: dict[str, float] = {}
        counters: dict[str, float] = {}

        def take(into: dict[str, float], name: str, read: Callable[[], float]) -> None:
            with contextlib.suppress(nvml.NVMLError):
                into[name] = float(read())

        take(
            gauges,
            "gpu_utilisation_percent",
            lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu,
        )
        take(gauges, "gpu_memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(device).used)
        take(
            gauges,
            "gpu_clock_mhz",
            lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
        )
        take(
            gauges,
            "gpu_memory_clock_mhz",
            lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
        )
        take(
            gauges,
            "gpu_temperature_c",
            lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
        )
        take(gauges, "gpu_power_w", lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3)
        with contextlib.suppress(nvml.NVMLError):
            reasons = self._reasons()
            gauges["gpu_throttled"] = float(is_throttled(reasons))
            gauges["gpu_power_capped"] = float(is_power_capped(reasons))
        take(
            counters, "gpu_energy_j",
            lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3,
        )  # fmt: skip
        return Reading(gauges, counters)

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _reasons(self) -> int:
        """The bits that explain the clocks; older drivers have only the function's old name."""
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._device))
        except (AttributeError, nvml.NVMLError):
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._device))


def is_throttled(reasons: int) -> bool:
    """True if any reason of THROTTLE_BITS is set."""
    return any(reasons & bit for bit in THROTTLE_BITS)


def is_power_capped(reasons: int) -> bool:
    """True if any reason of POWER_CAP_BITS is set."""
    return any(reasons & bit for bit in POWER_CAP_BITS)


def used_by(pid: int) -> int | None:
    """Bytes of device memory that a process holds, its CUDA context included; None if unknown.

    Unlike the caching allocator's own account this includes what libraries and the driver take. In
    a container the driver lists the process under another number, and the answer is None.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, or no driver
        return None
    try:
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(_device(pynvml)):
            if process.pid == pid and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


SENSORS.add(Nvml())
