"""What a sensor is: something that tells the state of the machine beside a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cspbench.core.registry import Registry


@dataclass(frozen=True)
class Reading:
    """One look at a sensor; every name carries its unit.

    ``gauges`` are levels (``gpu_power_w``, ``temperature_c``), of which a window has a mean;
    ``counters`` only grow (``cpu_energy_j``, ``cpu_throttle_events``), and a window has their
    difference. ``seconds`` is the monotonic time at which this was true, where the sensor knows it
    (a service that publishes now and then); None means now.
    """

    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None


class Reader(Protocol):
    """An open sensor."""

    def read(self) -> Reading:
        """Look once; what cannot be read now is left out.

        Raises:
            OSError: the sensor is gone.
        """

    def close(self) -> None:
        """Let go of it."""


@runtime_checkable
class Publishes(Protocol):
    """What a reader offers besides if a service sends values to a thread of ours, at its pace."""

    period_s: float

    def spent_s(self) -> float:
        """Processor time of that thread since this was asked last."""


class Sensor(Protocol):
    """A source of readings; light until it is opened."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def rate_hz(self) -> float:
        """How often it is read beside a measurement: often enough to see a launch, no busier."""

    @property
    def on_request(self) -> bool:
        """True if it is read only where ``measure.sensors`` names it."""

    def available(self) -> str | None:
        """None if it can be read on this machine, else the reason in one phrase."""

    def open(self) -> Reader:
        """Start reading."""


SENSORS: Registry[Sensor] = Registry("sensor", ("cspbench.machine.sensors",), "cspbench.sensors")
