"""The protocol of sensors, which read the state of the machine beside a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cspbench.core.registry import Registry


@dataclass(frozen=True)
class Reading:
    """Values of a sensor at one time; every name carries its unit.

    ``gauges`` are levels (``gpu_power_w``, ``temperature_c``); a window summarises them by means.
    ``counters`` only grow (``cpu_energy_j``, ``cpu_throttle_events``); a window has their
    difference. ``seconds`` is the monotonic time of the values if the sensor knows it (a service
    that publishes at its own pace); None means now.
    """

    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None


class Reader(Protocol):
    """An open sensor."""

    def read(self) -> Reading:
        """Read once; values that cannot be read now are left out.

        Raises:
            OSError: the sensor is gone.
        """

    def close(self) -> None:
        """Close the sensor."""


@runtime_checkable
class Counts(Protocol):
    """Offered by readers whose counters of energy are quick to read by themselves.

    Where energy is measured, they are read FINE_HZ times a second, so that it is known when the
    hardware renewed them.
    """

    def counters(self) -> Mapping[str, float]:
        """The counters of energy now, in joules."""


@runtime_checkable
class Publishes(Protocol):
    """Offered by readers whose service sends values at its own pace to a thread of this process."""

    period_s: float

    def spent_s(self) -> float:
        """Processor time of that thread since the last call, in seconds."""


class Sensor(Protocol):
    """A source of readings; imports heavy packages only when it is opened."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def rate_hz(self) -> float:
        """Readings per second beside a measurement: enough to observe a launch, at most 10."""

    @property
    def on_request(self) -> bool:
        """True if it is read only when ``measure.sensors`` names it."""

    def available(self) -> str | None:
        """None if it can be read on this machine, else the reason in one phrase."""

    def open(self) -> Reader:
        """Open the sensor for reading.

        Raises:
            OSError: it cannot be opened.
        """


SENSORS: Registry[Sensor] = Registry("sensor", ("cspbench.machine.sensors",), "cspbench.sensors")
