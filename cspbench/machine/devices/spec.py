"""The spec of a device: properties of launches on it, its sensors, its ceilings.

A file of this package registers a device on import; so may a backend's own file, in this project or
in another package. Registering imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cspbench.core.registry import Registry

#: The device of a job that names none: the processor on which workers themselves run.
HOST = "cpu"
Operation = Callable[[], object]


class PowerSource(NamedTuple):
    """A gauge in watts, or a counter in joules that the hardware renews every ``period_s``."""

    name: str
    period_s: float | None = None


class Probe(Protocol):
    """Operations of a device, run in a worker; their best rates are the device's ceilings.

    Each method prepares operands and returns only the operation, which may return before the device
    has finished; ``synchronise`` waits for the device. Arrays are float32.
    """

    @property
    def name(self) -> str | None:
        """The hardware's name; None if the number of threads describes it."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of ``matrix_product``, by their names in the axis ``precision``."""

    @property
    def matrix_side(self) -> int:
        """Side of square matrices that keep the device busy."""

    @property
    def caches(self) -> Mapping[str, int]:
        """Bytes of the data caches by level (``L1d``, ``L2``); empty if unknown."""

    def matrix_product(self, precision: str) -> Operation:
        """Product of two matrices of ``matrix_side`` into a third."""

    def copy(self, elements: int) -> Operation:
        """Copy one array into another."""

    def read(self, elements: int) -> Operation:
        """Sum of one array."""

    def triad(self, elements: int) -> Operation:
        """``a = b + 3 c`` of three arrays."""

    def one_operator(self) -> Operation:
        """An addition of one element, whose time is the overhead of an operator."""

    def synchronise(self) -> None:
        """Wait until all operations are complete."""


@dataclass(frozen=True)
class Device:
    """A device; backends, ceilings and stored launches use its name.

    ``on_host``: inferences run on the worker's own threads, so their number is checked, and time
    in which the worker waited for a processor is known to be lost.

    ``data_limit``: RLIMIT_DATA may bound a worker. It may not if a driver maps memory that counts
    as the worker's data.

    ``power``: sources of its power or energy, best first. ``clocks``: gauges whose fall means
    throttling. ``throttle_gauges``: gauges above 0 while the device itself slows down.
    ``throttle_counters``: seconds for which it did so far.

    ``free_bytes()`` tells the free memory of a device that has its own, ``held_by(pid)`` what a
    process holds of it; None where the driver does not tell. ``process_bytes`` is what a process
    is expected to take there besides a model's weights and activations.

    ``probe(threads)`` opens the operations for its ceilings, in a worker; None if they cannot be
    measured. ``available()`` is None, or the reason why this machine cannot measure them.
    """

    name: str
    summary: str
    on_host: bool = False
    data_limit: bool = False
    power: tuple[PowerSource, ...] = ()
    clocks: tuple[str, ...] = ()
    throttle_gauges: tuple[str, ...] = ()
    throttle_counters: tuple[str, ...] = ()
    process_bytes: int = 0
    free_bytes: Callable[[], int | None] = field(default=lambda: None, compare=False)
    held_by: Callable[[int], int | None] = field(default=lambda _: None, compare=False)
    probe: Callable[[int], AbstractContextManager[Probe]] | None = field(
        default=None, compare=False
    )
    available: Callable[[], str | None] = field(default=lambda: None, compare=False)


DEVICES: Registry[Device] = Registry(
    "device", ("cspbench.machine.devices", "cspbench.backends"),
    "cspbench.devices", "cspbench.backends",
)  # fmt: skip
