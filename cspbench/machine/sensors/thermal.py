"""Temperatures of the thermal zones, from sysfs (kernel documentation: driver-api/thermal)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cspbench.machine.sensors.spec import SENSORS, Reading
from cspbench.machine.sysfs import read_number, read_text

#: Value of a zone that a Tegra board has switched off, in thousandths of a degree.
OFFLINE = -256_000


@dataclass(frozen=True)
class Thermal:
    """A gauge for each zone, by its type, and the hottest."""

    root: Path = Path("/sys/class/thermal")
    name: str = "thermal"
    summary: str = "temperatures of the thermal zones, from sysfs"
    rate_hz: float = 1.0
    on_request: bool = False

    def available(self) -> str | None:
        """Most virtual machines have none."""
        return None if self._zones() else "this system shows no thermal zone"

    def open(self) -> Thermal:
        """Nothing to keep open."""
        return self

    def read(self) -> Reading:
        """Read all zones; the kernel gives thousandths of a degree."""
        gauges: dict[str, float] = {}
        for zone in self._zones():
            value = read_number(zone / "temp")
            kind = re.sub(r"\W+", "_", read_text(zone / "type") or zone.name).lower()
            if value is not None and value > OFFLINE:
                name = f"temperature_{kind.removesuffix('_thermal')}_c"
                # Several zones may be of one type, such as a board's ACPI zones.
                gauges[name] = max(value / 1e3, gauges.get(name, value / 1e3))
        if gauges:
            gauges["temperature_c"] = max(gauges.values())
        return Reading(gauges)

    def close(self) -> None:
        """Nothing is open."""

    def _zones(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob("thermal_zone*/temp"))


def hottest_c(zones: Path = Thermal.root) -> float | None:
    """Temperature of the hottest thermal zone; None if the kernel lists none."""
    return Thermal(zones).read().gauges.get("temperature_c")


SENSORS.add(Thermal())
