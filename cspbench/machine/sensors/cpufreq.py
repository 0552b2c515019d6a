"""Processor clocks and throttling, from sysfs (kernel documentation: admin-guide/pm/cpufreq)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cspbench.machine.sensors.spec import SENSORS, Reading
from cspbench.machine.sysfs import read_number


@dataclass(frozen=True)
class CpuFreq:
    """Clocks of all processors (mean and highest), and how often they were throttled since boot."""

    root: Path = Path("/sys/devices/system/cpu")
    name: str = "cpufreq"
    summary: str = "processor clocks and throttle counts, from sysfs"
    rate_hz: float = 4.0
    on_request: bool = False

    def available(self) -> str | None:
        """Most virtual machines have neither."""
        if self._clocks() or self._throttles():
            return None
        return "this system shows no processor clock (as most virtual machines)"

    def open(self) -> CpuFreq:
        """Nothing to keep open."""
        return self

    def read(self) -> Reading:
        """Read all processors."""
        clocks = [khz for path in self._clocks() if (khz := read_number(path)) is not None]
        counts = [count for path in self._throttles() if (count := read_number(path)) is not None]
        gauges = {}
        if clocks:
            gauges["cpu_frequency_mhz"] = sum(clocks) / len(clocks) / 1e3
            # Idle processors lower the mean; the busiest one has the highest clock.
            gauges["cpu_frequency_max_mhz"] = max(clocks) / 1e3
        return Reading(gauges, {"cpu_throttle_events": sum(counts)} if counts else {})

    def close(self) -> None:
        """Nothing is open."""

    def _clocks(self) -> list[Path]:
        return sorted(self.root.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))

    def _throttles(self) -> list[Path]:
        return sorted(self.root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))


SENSORS.add(CpuFreq())
