"""A Jetson board without the jtop service, from sysfs: power rails, GPU load and clock.

Written from the kernel's documentation: hwmon/ina3221 (``inN_label`` names a rail, ``inN_input`` in
mV, ``currN_input`` in mA), hwmon/ina238 (``power1_input`` in µW) and
ABI/testing/sysfs-class-devfreq (``cur_freq`` in Hz); ``device/load`` of the GPU is in thousandths.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cspbench.core.programs import find_program
from cspbench.machine.sensors.spec import SENSORS, Reading
from cspbench.machine.sysfs import read_number, read_text

#: Rails that feed all others of a board. VIN is Thor's whole carrier board (an INA238 without a
#: label); Orin Nano, Orin NX and Xavier NX have VDD_IN, older boards POM_5V_IN. The AGX boards have
#: no such rail.
TOTAL_RAILS = ("VIN", "VDD_IN", "POM_5V_IN")
#: Names of the GPU in the device tree: of Orin, Xavier, TX2 and Nano, before they were all "gpu".
GPU_NAMES = ("gpu", "ga10b", "gv11b", "gp10b", "gm20b")


@dataclass(frozen=True)
class Tegra:
    """Spec and reader of the sensor; ``root`` is the path of ``/sys``."""

    root: Path = Path("/sys")
    name: str = "tegra"
    summary: str = "power rails (INA3221), GPU load and clock of a Jetson board, from sysfs"
    rate_hz: float = 10.0
    on_request: bool = False

    def available(self) -> str | None:
        """The board must have the power monitor or the GPU's devfreq."""
        if self._monitors() or self._gpu() is not None:
            return None
        return "no INA3221 power monitor and no Tegra GPU in /sys"

    def open(self) -> Tegra:
        """Nothing to keep open."""
        return self

    def read(self) -> Reading:
        """Read every rail and the GPU."""
        gauges = power_gauges(self._rails())
        gpu = self._gpu()
        if gpu is not None:
            load, clock = read_number(gpu / "device/load"), read_number(gpu / "cur_freq")
            if load is not None:
                gauges["gpu_utilisation_percent"] = load / 10
            if clock is not None:
                gauges["gpu_clock_mhz"] = clock / 1e6
        return Reading(gauges)

    def close(self) -> None:
        """Nothing is open."""

    def _rails(self) -> dict[str, float]:
        """Watts by the rail's name."""
        watts = {}
        for monitor in self._monitors():
            power = read_number(monitor / "power1_input")
            if _chip(monitor) == "ina238" and power is not None:
                watts["VIN"] = power / 1e6
            for label in sorted(monitor.glob("in[1-9]_label")):
                number = label.name[2]
                volts = read_number(monitor / f"in{number}_input")
                amperes = read_number(monitor / f"curr{number}_input")
                rail = read_text(label)
                if rail and rail != "NC" and volts is not None and amperes is not None:
                    watts[rail] = volts / 1e3 * amperes / 1e3
        return watts

    def _monitors(self) -> list[Path]:
        chips = self.root.glob("bus/i2c/devices/*/hwmon/hwmon*")
        return sorted(chip for chip in chips if _chip(chip) in ("ina3221", "ina238"))

    def _gpu(self) -> Path | None:
        devices = sorted(self.root.glob("class/devfreq/*"))
        for path in devices:
            name = (read_text(path / "device/of_node/name") or path.name).lower()
            if any(known in name for known in GPU_NAMES):
                return path
        return None


def _chip(monitor: Path) -> str | None:
    """Name of a hardware monitor's chip."""
    return read_text(monitor / "name") or read_text(monitor.parent.parent / "name")


def power_gauges(rails: Mapping[str, float]) -> dict[str, float]:
    """Gauges of rails in watts: one for each, and ``board_power_w``, the rail that feeds all.

    Without such a rail the sum is ``rails_power_w``. The sum is not the board's power: it omits
    parts without a rail of their own, and counts parts behind two rails twice.
    """
    gauges = {power_name(rail): watts for rail, watts in rails.items()}
    total = next((rails[rail] for rail in TOTAL_RAILS if rail in rails), None)
    if total is not None:
        gauges["board_power_w"] = total
    elif rails:
        gauges["rails_power_w"] = sum(rails.values())
    return gauges


def power_name(rail: str) -> str:
    """``VDD_CPU_GPU_CV`` -> ``power_vdd_cpu_gpu_cv_w``."""
    return f"power_{re.sub(r'[^a-z0-9]+', '_', rail.lower())}_w"


def nvpmodel_mode() -> str | None:
    """Name of the power mode that ``nvpmodel -q`` prints; None without the tool or the name."""
    tool = find_program("nvpmodel")
    if tool is None:
        return None
    try:
        text = subprocess.run(
            [tool, "-q"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"NV Power Mode: *(\S+)", text)
    return match[1] if match else None


def clocks_locked(root: Path = Path("/sys")) -> bool | None:
    """Whether the GPU's clock is fixed, as ``jetson_clocks`` does; None without a Tegra GPU."""
    gpu = Tegra(root)._gpu()
    if gpu is None:
        return None
    low, high = read_number(gpu / "min_freq"), read_number(gpu / "max_freq")
    return None if low is None or high is None else low == high


SENSORS.add(Tegra())
