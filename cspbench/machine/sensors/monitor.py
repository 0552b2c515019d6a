"""Reads sensors at their own rates beside a measurement, in a thread of the controller.

The worker is never touched: another process spends the time that reading costs. That time is
measured and stored with the readings (``cost_share``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import Any

from cspbench.core.text import nearest
from cspbench.machine.sensors.spec import SENSORS, Counts, Publishes, Reader, Reading, Sensor

#: Values of ``measure.sensors`` that are no names.
AUTO, NONE = "auto", "none"
#: How often counters of energy are read where their changes are looked for.
FINE_HZ = 100.0


@dataclass(frozen=True)
class TimedReading:
    """One reading and its time in seconds of the monotonic clock."""

    seconds: float
    values: Reading


@dataclass
class Trace:
    """The readings of one sensor in a window, in order; the first and the last are its ends.

    ``fine`` are readings of its counters of energy alone, FINE_HZ times a second, where they were
    asked for. ``cost_s`` is the processor time that reading took, ``begin_s`` the time when the
    window began, ``problem`` the reason why the sensor could not be opened or went away.
    """

    sensor: str
    period_s: float
    readings: list[TimedReading] = field(default_factory=list)
    cost_s: float = 0.0
    problem: str = ""
    begin_s: float = 0.0
    fine: list[TimedReading] = field(default_factory=list)

    @property
    def window_s(self) -> float:
        """Seconds from the first reading to the last; 0 with fewer than two."""
        return self.readings[-1].seconds - self.readings[0].seconds if self.readings else 0.0


def select_sensors(setting: str) -> list[Sensor]:
    """Return the sensors that a setting selects.

    Args:
        setting: ``auto`` (all of this machine but those that must be named), ``none``, or names
            with commas between them.

    Raises:
        ValueError: no sensor has one of the names.
    """
    if setting == NONE:
        return []
    sensors = list(SENSORS)
    if setting == AUTO:
        return [s for s in sensors if not s.on_request and s.available() is None]
    known = {sensor.name: sensor for sensor in sensors}
    # Sensors that this machine lacks stay in the list: the monitor notes why they cannot be opened.
    return [known[name] for name in check_names(setting, list(known))]


def check_names(setting: str, known: Sequence[str]) -> list[str]:
    """Split a setting into names of sensors.

    Raises:
        ValueError: no sensor has one of the names.
    """
    names = [name.strip() for name in setting.split(",") if name.strip()]
    for name in names:
        if name not in known:
            valid = ", ".join((AUTO, NONE, *sorted(known)))
            raise ValueError(f"unknown sensor {name!r}{nearest(name, list(known))}; valid: {valid}")
    return names


def reading_cost_s(sensor: Sensor, readings: int = 5) -> float | None:
    """Median processor time of a few readings of a sensor; None if it cannot be read."""
    costs = []
    try:
        reader = sensor.open()
        try:
            for _ in range(readings):
                start = time.thread_time()
                reader.read()
                costs.append(time.thread_time() - start)
        finally:
            reader.close()
    except Exception:  # a driver's library may raise anything
        return None
    return median(costs)


class Monitor:
    """Reads open sensors, each at its rate, between ``start`` and ``stop``.

    As a context manager it opens the sensors and closes them again. If a sensor cannot be opened
    or goes away, its trace notes the problem, and the other sensors are read on.
    """

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        self._sensors = sensors
        self._readers: list[tuple[Sensor, Reader]] = []
        self._problems: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._traces: list[Trace] = []
        self._fine = False

    def __enter__(self) -> Monitor:
        self.open()
        return self

    def open(self) -> None:
        """Open the sensors; note the problems of those that cannot be opened."""
        for sensor in self._sensors:
            try:
                reason = sensor.available()
                if reason is None:
                    self._readers.append((sensor, sensor.open()))
                else:
                    self._problems[sensor.name] = reason
            except Exception as error:  # a driver's library may raise anything
                self._problems[sensor.name] = str(error) or type(error).__name__

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End a window that is under way, and close the sensors."""
        self.stop()
        for _, reader in self._readers:
            with contextlib.suppress(Exception):
                reader.close()
        self._readers = []

    def phase(self, name: str, *, fine: bool = False) -> None:
        """Follow a worker: read the sensors while it samples, and only then."""
        if name == "sample":
            self.start(fine=fine)
        else:
            self.stop()

    def start(self, *, fine: bool = False) -> None:
        """Begin a window; an earlier one is forgotten.

        Args:
            fine: look for the changes of counters of energy, too.
        """
        self.stop()
        self._fine = fine
        self._traces = [
            Trace(sensor.name, period_of(sensor, reader), begin_s=time.monotonic())
            for sensor, reader in self._readers
        ]
        for _, reader in self._readers:
            if isinstance(reader, Publishes):
                reader.spent_s()  # before the window
        self._done.clear()
        if self._readers:
            self._thread = threading.Thread(target=self._work, name="sensors", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the window with a last reading of every sensor."""
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None

    def names(self) -> set[str]:
        """Names of the gauges and counters that the open sensors give now."""
        names: set[str] = set()
        for _, reader in self._readers:
            with contextlib.suppress(Exception):  # the next window notes the problem
                reading = reader.read()
                names.update(reading.gauges, reading.counters)
        return names

    @property
    def traces(self) -> list[Trace]:
        """Traces of the last window, and of each sensor that could not be opened."""
        missing = [Trace(name, 0.0, problem=text) for name, text in self._problems.items()]
        return [*self._traces, *missing]

    def _work(self) -> None:
        tasks: list[_Task] = []
        for (_, reader), trace in zip(self._readers, self._traces, strict=True):
            tasks.append(_Task(_read_into, reader, trace, trace.period_s))
            if self._fine and isinstance(reader, Counts):
                tasks.append(_Task(_count_into, reader, trace, 1 / FINE_HZ))
        while True:
            last = self._done.is_set()
            for task in tasks:
                if (last or task.due <= time.monotonic()) and not task.trace.problem:
                    task.read(task.trace, task.reader)
                    # After a slow reading the next one is later; missed readings are not repeated.
                    task.due = max(task.due + task.period_s, time.monotonic())
            if last:
                return
            alive = [task.due for task in tasks if not task.trace.problem]
            if not alive:
                return
            self._done.wait(max(0.0, min(alive) - time.monotonic()))


@dataclass
class _Task:
    """What the thread reads of one sensor, how often, and when it is due."""

    read: Callable[[Trace, Any], None]
    reader: Reader
    trace: Trace
    period_s: float
    due: float = field(default_factory=time.monotonic)


def period_of(sensor: Sensor, reader: Reader) -> float:
    """Seconds between two values: the period of a publishing service, else 1 / the rate."""
    return reader.period_s if isinstance(reader, Publishes) else 1 / sensor.rate_hz


def _count_into(trace: Trace, reader: Counts) -> None:
    """Read counters alone."""
    found = _timed(trace, lambda: Reading({}, reader.counters()))
    if found is not None:
        trace.fine.append(found)


def _read_into(trace: Trace, reader: Reader) -> None:
    found = _timed(trace, reader.read)
    if found is None:
        return
    if isinstance(reader, Publishes):
        trace.cost_s += reader.spent_s()
    seconds = found.values.seconds
    if seconds is not None:
        if seconds < trace.begin_s or (trace.readings and seconds == trace.readings[-1].seconds):
            return  # published before the window began, or read already
        found = TimedReading(seconds, found.values)
    trace.readings.append(found)


def _timed(trace: Trace, read: Callable[[], Reading]) -> TimedReading | None:
    """A reading, which is as old as the middle of its time; None if the sensor is gone."""
    begin, cpu = time.monotonic(), time.thread_time()
    try:
        reading = read()
    except Exception as error:  # the others are read on
        trace.problem = str(error) or type(error).__name__
        return None
    trace.cost_s += time.thread_time() - cpu
    return TimedReading((begin + time.monotonic()) / 2, reading)
