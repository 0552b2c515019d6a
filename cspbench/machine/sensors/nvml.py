"""NVIDIA GPUs through NVML (module pynvml of the package nvidia-ml-py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cspbench.machine.sensors.spec import SENSORS, Reader, Reading

#: Bits of nvmlClocksEventReasons (nvml.h) that mean throttling: the device protects itself, for
#: the hardware bits by halving its clocks or worse. Idle clocks and clocks set by a user are not
#: among them. Sync boost holds a device to the slowest clock of its group.
THROTTLE_BITS = {
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
#: The driver lowers the clocks so that the power limit is not exceeded. Large devices work like
#: that under full load, so it is reported but is no throttling. A clock that falls in the window
#: is throttling.
POWER_CAP_BITS = {0x4: "power cap", 0x200: "board limit"}
#: Counters of VIOLATIONS that mean throttling.
THROTTLED = (
    "gpu_thermal_s", "gpu_thermal_software_s", "gpu_thermal_hardware_s", "gpu_power_brake_s",
    "gpu_sync_boost_s",
)  # fmt: skip
#: Field ids (nvml.h) of counters of nanoseconds in which the device was held below its clocks, by
#: reason. Unlike the bits, which are looked at ten times a second, they miss nothing.
VIOLATIONS = {
    "gpu_thermal_s": 75,
    "gpu_thermal_software_s": 269,
    "gpu_thermal_hardware_s": 270,
    "gpu_power_brake_s": 271,
    "gpu_sync_boost_s": 76,
    "gpu_power_cap_s": 74,  # how large devices work under full load: no throttling
    "gpu_board_limit_s": 77,
}


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
        return NvmlReader(pynvml, first_device(pynvml))


def first_device(nvml: Any) -> Any:
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

        def take(name: str, read: Callable[[], float]) -> None:
            with contextlib.suppress(nvml.NVMLError):
                gauges[name] = float(read())

        take(
            "gpu_utilisation_percent",
            lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu,
        )
        take("gpu_memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(device).used)
        take(
            "gpu_clock_mhz",
            lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
        )
        take(
            "gpu_memory_clock_mhz",
            lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
        )
        take(
            "gpu_temperature_c",
            lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
        )
        take("gpu_power_w", lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3)
        with contextlib.suppress(nvml.NVMLError):
            reasons = self._reasons()
            gauges["gpu_throttled"] = float(is_throttled(reasons))
            gauges["gpu_power_capped"] = float(is_power_capped(reasons))
        return Reading(gauges, {**self.counters(), **self.violations()})

    def counters(self) -> dict[str, float]:
        """The counter of energy, which devices before Volta do not have."""
        nvml = self._nvml
        with contextlib.suppress(nvml.NVMLError):
            joules = nvml.nvmlDeviceGetTotalEnergyConsumption(self._device) / 1e3
            return {"gpu_energy_j": float(joules)}
        return {}

    def violations(self) -> dict[str, float]:
        """Seconds below the clocks since the driver was loaded; unsupported ones are left out."""
        nvml = self._nvml
        try:
            fields = nvml.nvmlDeviceGetFieldValues(self._device, list(VIOLATIONS.values()))
        except (AttributeError, nvml.NVMLError):
            return {}
        known = {
            int(field.fieldId): float(field.value.ullVal) / 1e9
            for field in fields
            if field.nvmlReturn == 0  # NVML_SUCCESS
        }
        return {name: known[number] for name, number in VIOLATIONS.items() if number in known}

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _reasons(self) -> int:
        """The bits that explain the clocks; older drivers have only the function's old name."""
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._device))
        except (AttributeError, nvml.NVMLError):
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._device))


class Clocks:
    """What a worker asks between its bursts: quick, and apart from what is timed."""

    def __init__(self, nvml: Any, device: Any) -> None:
        self._nvml, self._device = nvml, device
        self._reader = NvmlReader(nvml, device)
        self._held_s = self._throttled_s()

    def read(self) -> tuple[float | None, float]:
        """Clock of the SMs in MHz now, and seconds of throttling since the last call."""
        clock: float | None = None
        with contextlib.suppress(self._nvml.NVMLError):
            clock = float(self._nvml.nvmlDeviceGetClockInfo(self._device, self._nvml.NVML_CLOCK_SM))
        before, self._held_s = self._held_s, self._throttled_s()
        return clock, self._held_s - before

    def _throttled_s(self) -> float:
        """By the reason that held it longest: one slowdown may count for several of them."""
        violations = self._reader.violations()
        return max((violations.get(name, 0.0) for name in THROTTLED), default=0.0)


def open_clocks() -> Clocks | None:
    """The clocks of the device that CUDA takes first; None without NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return Clocks(pynvml, first_device(pynvml))
    except Exception:  # no package, no driver, or no such device: a burst is timed all the same
        return None


def is_throttled(reasons: int) -> bool:
    """True if any reason of THROTTLE_BITS is set."""
    return any(reasons & bit for bit in THROTTLE_BITS)


def is_power_capped(reasons: int) -> bool:
    """True if any reason of POWER_CAP_BITS is set."""
    return any(reasons & bit for bit in POWER_CAP_BITS)


def used_bytes() -> int | None:
    """Bytes of the device's memory that are taken, by all processes; None without NVML.

    In a container the driver does not list processes, but it tells this.
    """
    return _asked(lambda nvml, card: int(nvml.nvmlDeviceGetMemoryInfo(card).used))


def free_bytes() -> int | None:
    """Bytes of the device's memory that are free; None without NVML or on a Jetson board."""
    return _asked(lambda nvml, card: int(nvml.nvmlDeviceGetMemoryInfo(card).free))


def used_by(pid: int) -> int | None:
    """Bytes of device memory that a process holds, its CUDA context included; None if unknown.

    Unlike the caching allocator's own account this includes what libraries and the driver take. In
    a container the driver lists the process under another number, and the answer is None.
    """

    def held(nvml: Any, card: Any) -> int | None:
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(card):
            if process.pid == pid and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    return _asked(held)


def _asked(read: Callable[[Any, Any], int | None]) -> int | None:
    """What NVML says of the device that CUDA uses first; None where it does not say it."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, or no driver
        return None
    try:
        return read(pynvml, first_device(pynvml))
    except pynvml.NVMLError:  # a Jetson board has no memory of its own
        return None
    finally:
        pynvml.nvmlShutdown()


SENSORS.add(Nvml())
