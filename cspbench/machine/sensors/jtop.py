"""A Jetson board through the jtop service (package jetson-stats, AGPL-3.0: imported only here).

jtop's own ``avg`` of a rail is a running (new + old) / 2, not a mean, so cspbench integrates power
from the momentary values. The service publishes at its own pace; each reading carries the time of
its publication.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.machine.sensors.spec import SENSORS, Reader, Reading
from cspbench.machine.sensors.tegra import power_gauges

_SOCKET = Path("/run/jtop.sock")


@dataclass(frozen=True)
class Jtop:
    """Spec of the sensor."""

    name: str = "jtop"
    summary: str = "rails, temperatures, GPU and EMC of a Jetson board, by the jtop service"
    rate_hz: float = 2.0
    on_request: bool = True

    def available(self) -> str | None:
        """The package must be installed and its service must run."""
        if importlib.util.find_spec("jtop") is None:
            return "jetson-stats is not installed (pip install jetson-stats)"
        if not _SOCKET.exists():
            return "the jtop service does not run (no /run/jtop.sock)"
        return None

    def open(self) -> Reader:
        """Connect to the service.

        Raises:
            OSError: the service refuses the connection.
        """
        from jtop import JtopException, jtop

        client = jtop(interval=1 / self.rate_hz)
        try:
            client.start()
        except JtopException as error:
            raise OSError(f"jtop: {error}") from error
        return JtopReader(client)


class JtopReader:
    """A connected client that receives the published values in a thread of its own.

    The service has one pace for all of its clients: that of the first client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.period_s = float(client.interval)
        self._thread_s = self._reported_s = 0.0
        self._latest = Reading(gauges_of(client), seconds=time.monotonic())
        client.attach(self._published)

    def _published(self, client: Any) -> None:
        self._latest = Reading(gauges_of(client), seconds=time.monotonic())
        self._thread_s = time.thread_time()  # of the client's thread, which calls this

    def spent_s(self) -> float:
        """Processor time of the client's thread since the last call, in seconds."""
        thread_s = self._thread_s
        spent, self._reported_s = thread_s - self._reported_s, thread_s
        return spent

    def read(self) -> Reading:
        if not self._client.ok(spin=True):
            raise OSError("the jtop service went away")
        return self._latest

    def close(self) -> None:
        self._client.detach(self._published)
        self._client.close()


def gauges_of(client: Any) -> dict[str, float]:
    """Gauges of a client's dictionaries: there power is in mW, temperature in °C, clocks in kHz.

    Versions and boards offer different values (4.3 with JetPack 6, 7.2 with JetPack 7): missing
    ones are left out.
    """
    gauges = power_gauges(_rails(client.power))
    celsius = {name: values["temp"] for name, values in client.temperature.items()
               if values.get("online", True)}  # fmt: skip
    for name, value in celsius.items():
        gauges[f"temperature_{name.lower()}_c"] = float(value)
    if celsius:
        gauges["temperature_c"] = float(max(celsius.values()))
    for values in client.gpu.values():
        load, clock = values.get("status", {}).get("load"), values.get("freq", {}).get("cur")
        if load is not None:
            gauges["gpu_utilisation_percent"] = float(load)
        if clock is not None:
            gauges["gpu_clock_mhz"] = clock / 1e3
        break
    emc = client.memory.get("EMC", {})
    if "cur" in emc:
        gauges["emc_clock_mhz"] = emc["cur"] / 1e3
    if "val" in emc:
        gauges["emc_utilisation_percent"] = float(emc["val"])
    for name, fan in client.fan.items():
        for number, percent in enumerate(fan.get("speed", ())):
            gauges[f"fan_{name.lower()}_{number}_percent"] = float(percent)
    if client.nvpmodel is not None:
        gauges["nvpmodel_id"] = float(client.nvpmodel.id)
    if client.jetson_clocks is not None:
        gauges["jetson_clocks"] = float(bool(client.jetson_clocks))
    return gauges


def _rails(power: Mapping[str, Any]) -> dict[str, float]:
    """Watts by the rail's name.

    jtop lists the rail that feeds all others only in ``tot``, with its name. Without a name ``tot``
    is jtop's own sum, which in version 4.3 includes the power that a USB charger negotiated.
    """
    watts = {
        rail: values["power"] / 1e3
        for rail, values in power.get("rail", {}).items()
        if "power" in values and not rail.lower().startswith(("ucsi", "usb"))
    }
    total = power.get("tot", {})
    if "name" in total and "power" in total:
        watts[total["name"]] = total["power"] / 1e3
    return watts


SENSORS.add(Jtop())
