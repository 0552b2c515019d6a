"""What a sensor is: something that tells the state of the machine beside a measurement."""

from __future__ import annotations

from typing import Protocol

from cspbench.registry import Registry


class Sensor(Protocol):
    """A source of readings; light until it is read."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    def available(self) -> str | None:
        """None if it can be read on this machine, else the reason in one phrase."""


SENSORS: Registry[Sensor] = Registry("sensor", ("cspbench.sensors",), "cspbench.sensors")
