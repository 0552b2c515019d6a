"""Reads sensors at their own rates beside a measurement, in a thread of the controller.

The worker is never touched: what reading costs is spent in another process, is measured, and
stands beside the readings (``cost_share``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType

from cspbench.core.text import nearest
from cspbench.machine.sensors.spec import SENSORS, Publishes, Reader, Reading, Sensor

#: What ``measure.sensors`` may say instead of names.
AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Look:
    """One reading and when it was taken, in seconds of the monotonic clock."""

    seconds: float
    reading: Reading


@dataclass
class Trace:
    """What one sensor told during a window, in order; the first and last look are its ends.

    ``cost_s`` is the processor time that reading it took, ``begin_s`` when the window began.
    """

    sensor: str
    period_s: float
    looks: list[Look] = field(default_factory=list)
    cost_s: float = 0.0
    problem: str = ""
    begin_s: float = 0.0

    @property
    def window_s(self) -> float:
        """Seconds from the first look to the last; 0 with fewer than two."""
        return self.looks[-1].seconds - self.looks[0].seconds if self.looks else 0.0


def chosen(wanted: str) -> list[Sensor]:
    """Sensors of this machine: all but those that want to be named, or the named ones, or none.

    Args:
        wanted: ``auto``, ``none``, or names with commas between them.

    Raises:
        ValueError: a name that no sensor has.
    """
    if wanted == NONE:
        return []
    sensors = list(SENSORS)
    if wanted == AUTO:
        return [s for s in sensors if not s.on_request and s.available() is None]
    known = {sensor.name: sensor for sensor in sensors}
    # Those that this machine lacks stay: the watch notes why they could not be opened.
    return [known[name] for name in check_names(wanted, list(known))]


def check_names(wanted: str, known: Sequence[str]) -> list[str]:
    """Split ``wanted`` into names of sensors.

    Raises:
        ValueError: a name that no sensor has.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in known:
            valid = ", ".join((AUTO, NONE, *sorted(known)))
            raise ValueError(f"unknown sensor {name!r}{nearest(name, list(known))}; valid: {valid}")
    return names


def reading_cost_s(sensor: Sensor, looks: int = 5) -> float | None:
    """Processor time of one look at a sensor, the median of a few; None if it cannot be read."""
    costs = []
    try:
        reader = sensor.open()
        try:
            for _ in range(looks):
                start = time.thread_time()
                reader.read()
                costs.append(time.thread_time() - start)
        finally:
            reader.close()
    except Exception:  # a driver's library may raise anything
        return None
    return median(costs)


class Watch:
    """Open sensors; between ``start`` and ``stop`` each is read at its rate.

    As a context it opens the sensors and closes them again. A sensor that cannot be opened, or
    that goes away, is noted in its trace and costs nothing else.
    """

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        self._sensors = sensors
        self._readers: list[tuple[Sensor, Reader]] = []
        self._problems: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._traces: list[Trace] = []

    def __enter__(self) -> Watch:
        self.open()
        return self

    def open(self) -> None:
        """Open the sensors; those that refuse are noted."""
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
        """End a window that is under way, and let go of the sensors."""
        self.stop()
        for _, reader in self._readers:
            with contextlib.suppress(Exception):
                reader.close()
        self._readers = []

    def phase(self, name: str) -> None:
        """Follow a worker: watch while it samples, and only then."""
        if name == "sample":
            self.start()
        else:
            self.stop()

    def start(self) -> None:
        """Begin a window; an earlier one is forgotten."""
        self.stop()
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
        """End the window with a last look at every sensor."""
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self._thread = None

    def names(self) -> set[str]:
        """What the open sensors tell of now."""
        found: set[str] = set()
        for _, reader in self._readers:
            with contextlib.suppress(Exception):  # a window would note it
                reading = reader.read()
                found.update(reading.gauges, reading.counters)
        return found

    @property
    def traces(self) -> list[Trace]:
        """What was seen in the last window, and what could not be opened."""
        missing = [Trace(name, 0.0, problem=text) for name, text in self._problems.items()]
        return [*self._traces, *missing]

    def _work(self) -> None:
        pairs = [(reader, trace) for (_, reader), trace in
                 zip(self._readers, self._traces, strict=True)]  # fmt: skip
        due = [time.monotonic()] * len(pairs)
        while True:
            last = self._done.is_set()
            for number, (reader, trace) in enumerate(pairs):
                if (last or due[number] <= time.monotonic()) and not trace.problem:
                    _look(reader, trace)
                    # A slow read puts the next one off; reads are never made up for.
                    due[number] = max(due[number] + trace.period_s, time.monotonic())
            if last:
                return
            alive = [when for when, (_, trace) in zip(due, pairs, strict=True) if not trace.problem]
            if not alive:
                return
            self._done.wait(max(0.0, min(alive) - time.monotonic()))


def period_of(sensor: Sensor, reader: Reader) -> float:
    """Seconds between two values: by the sensor's rate, or by what a service says of its own."""
    return reader.period_s if isinstance(reader, Publishes) else 1 / sensor.rate_hz


def _look(reader: Reader, trace: Trace) -> None:
    begin, cpu = time.monotonic(), time.thread_time()
    try:
        reading = reader.read()
    except Exception as error:  # the sensor is gone: the rest goes on
        trace.problem = str(error) or type(error).__name__
        return
    trace.cost_s += time.thread_time() - cpu
    if isinstance(reader, Publishes):
        trace.cost_s += reader.spent_s()
    seconds = reading.seconds
    if seconds is None:
        seconds = (begin + time.monotonic()) / 2
    elif seconds < trace.begin_s or (trace.looks and seconds == trace.looks[-1].seconds):
        return  # published before the window began, or seen already
    trace.looks.append(Look(seconds, reading))
