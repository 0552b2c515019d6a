"""Energy of the processor packages by RAPL, from sysfs (kernel documentation: power/powercap).

The counter is in microjoules and wraps at ``max_energy_range_uj``; reading it takes root on most
systems since 2020 (CVE-2020-8694).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cspbench.machine.sensors.spec import SENSORS, Reader, Reading
from cspbench.machine.sysfs import read_number, read_text


@dataclass(frozen=True)
class Rapl:
    """Spec of the sensor."""

    root: Path = Path("/sys/class/powercap")
    name: str = "rapl"
    summary: str = "energy of the processor packages, by RAPL"
    rate_hz: float = 1.0
    on_request: bool = False

    def available(self) -> str | None:
        """The counters must exist and be readable."""
        packages = self._packages()
        if not packages:
            return "this system has no RAPL counters"
        if all(read_number(package / "energy_uj") is None for package in packages):
            return "the RAPL counters are readable by root only"
        return None

    def open(self) -> Reader:
        """Count energy from now on."""
        return RaplReader(self._packages())

    def _packages(self) -> list[Path]:
        zones = sorted(self.root.glob("intel-rapl:[0-9]*"))
        return [
            zone
            for zone in zones
            if zone.name.count(":") == 1 and (read_text(zone / "name") or "").startswith("package")
        ]


class RaplReader:
    """Sums the packages and unwraps their counters; must be read once a wrap (minutes)."""

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._last: dict[Path, float] = {}
        self._total_uj = 0.0

    def read(self) -> Reading:
        for package in self._packages:
            now = read_number(package / "energy_uj")
            if now is None:
                raise OSError(f"{package / 'energy_uj'} cannot be read any more")
            grown = now - self._last.get(package, now)
            if grown < 0:
                grown += read_number(package / "max_energy_range_uj") or 0.0
            self._last[package] = now
            self._total_uj += grown
        return Reading(counters={"cpu_energy_j": self._total_uj / 1e6})

    def close(self) -> None:
        pass


SENSORS.add(Rapl())
