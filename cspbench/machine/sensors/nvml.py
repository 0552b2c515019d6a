"""NVIDIA GPUs through NVML (module pynvml of the package nvidia-ml-py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cspbench.machine.sensors.spec import SENSORS, Reader, Reading

#: Bits of nvmlClocksEventReasons (nvml.h) by which something is wrong: the device protects itself,
#: the hardware ones by halving its clocks or worse. Not idle, and not clocks that somebody set.
THROTTLE_BITS = {
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
#: The driver keeps the clocks so that the power limit is not exceeded. That is how large devices
#: work under full load, so it is told but is no throttling; a clock that falls in the window is.
POWER_CAP_BITS = {0x4: "power cap", 0x200: "board limit"}


@dataclass(frozen=True)
class Nvml:
    """Spec of the sensor: the first device, or that of ``CUDA_VISIBLE_DEVICES``'s first entry."""

    name: str = "nvml"
    summary: str = "utilisation, memory, clocks, throttling, temperature, power, energy of a GPU"
    rate_hz: float = 10.0
    on_request: bool = False

    def available(self) -> str | None:
        """The driver's library must load and know a device."""
        try:
            import pynvml
        except ImportError:
            return "pynvml is not installed (pip install nvidia-ml-py)"
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            return f"NVML answers: {error}"
        return None if count else "NVML knows no device"

    def open(self) -> Reader:
        """Open the device."""
        import pynvml

        pynvml.nvmlInit()
        return NvmlReader(pynvml, _device(pynvml))


def _device(nvml: Any) -> Any:
    """The device that CUDA would take first; by UUID or index, as the variable has it."""
    import os

    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
    if wanted.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(wanted))
    if wanted.startswith("GPU-"):  # CUDA takes the beginning of a UUID as well
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            if _text(nvml.nvmlDeviceGetUUID(device)).startswith(wanted):
                return device
    return nvml.nvmlDeviceGetHandleByUUID(wanted)


def _text(value: str | bytes) -> str:
    """Old versions of pynvml give bytes."""
    return value.decode() if isinstance(value, bytes) else value


class NvmlReader:
    """One device; a quantity that it does not support is left out."""

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
        """Why the clocks are what they are; older drivers know only the function's old name."""
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

    Other than the caching allocator's own account this has what libraries and the driver take. In a
    container the driver knows the process by another number, and nothing is found.
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
