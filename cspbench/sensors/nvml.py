"""NVIDIA GPUs through NVML (module pynvml of the package nvidia-ml-py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cspbench.sensors.spec import SENSORS, Reader, Reading

#: Bits of nvmlClocksEventReasons that mean "slower than it could be", from nvml.h; not idle, and
#: not clocks that somebody set.
THROTTLE_BITS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


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
    return nvml.nvmlDeviceGetHandleByUUID(wanted)


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
        take(
            gauges,
            "gpu_throttled",
            lambda: is_throttled(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)),
        )
        take(
            counters, "gpu_energy_j",
            lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3,
        )  # fmt: skip
        return Reading(gauges, counters)

    def close(self) -> None:
        self._nvml.nvmlShutdown()


def is_throttled(reasons: int) -> bool:
    """True if any reason of THROTTLE_BITS is set."""
    return any(reasons & bit for bit in THROTTLE_BITS)


SENSORS.add(Nvml())
