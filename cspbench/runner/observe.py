"""Sensors around the launches on this machine: idle power first, then every timed window."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from cspbench.core.statuses import Status
from cspbench.jobs.energy import EnergyResult
from cspbench.jobs.spec import JOBS, Request
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.machine.sensors.monitor import AUTO, NONE, Monitor, Trace, select_sensors
from cspbench.machine.sensors.summary import Power, energy, power, summarise, throttled
from cspbench.runner.process import Outcome


@dataclass(frozen=True)
class PowerWindow:
    """Readings while one case ran alone so many inferences, which took so many seconds.

    Readings before ``begin_s`` and after ``end_s`` do not count.
    """

    traces: Sequence[Trace]
    seconds: float
    inferences: int
    begin_s: float = -math.inf
    end_s: float = math.inf


#: For how long a case works for its power at least, and how often a gauge is renewed meanwhile.
LEAST_POWER_SECONDS, READINGS_OF_POWER = 1.0, 4
#: How long idle power is measured, once a run, before its first timed launch.
IDLE_SECONDS = 2.0


class Observer:
    """Reads this machine's sensors during the timed launches of one run.

    Sensors are opened for the first launch that needs them and stay open, because connecting to a
    service may take seconds.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._monitors: dict[str, Monitor] = {}
        self._idle: dict[tuple[str, str], Power | None] = {}

    def monitor(self, request: Request) -> Monitor:
        """Return the monitor for one job; it reads sensors only in timed windows.

        Before the first launch on a device idle power is measured, if a sensor gives power.
        """
        device, setting = _conditions(request)
        if setting not in self._monitors:
            monitor = Monitor(select_sensors(setting))
            monitor.open()
            weakref.finalize(self, monitor.close)
            self._monitors[setting] = monitor
        monitor = self._monitors[setting]
        if (device, setting) not in self._idle:
            self._idle[device, setting] = self._measure_idle(monitor, device)
        return monitor

    def add(self, request: Request, monitor: Monitor, outcome: Outcome) -> None:
        """Add the summary of the monitor's readings to a timed launch that succeeded."""
        result = outcome.checked(request.job) if JOBS.get(request.job).observed else None
        if result is None or not monitor.traces:
            return
        window: PowerWindow | None = None
        if isinstance(result, EnergyResult):
            window = PowerWindow(
                monitor.traces, result.seconds, result.inferences, result.begin_s, result.end_s
            )
        self.add_shared(request, monitor.traces, window, outcome)

    def lacks(self, request: Request) -> str | None:
        """Why a job would be in vain: it needs a power that no sensor gives; else None."""
        if not JOBS.get(request.job).powered or self._idle.get(_conditions(request)) is not None:
            return None
        return f"no sensor of this machine gives the power of the device {_conditions(request)[0]}"

    def powered(self, request: Request) -> bool:
        """Whether energy is measured beside timing, and a sensor gives the device's power."""
        return _while_timed(request) and self._idle.get(_conditions(request)) is not None

    def power_seconds(self, request: Request, traces: Sequence[Trace]) -> float:
        """How long a case works for its power: a gauge is to be read a few times meanwhile.

        Args:
            request: its launch.
            traces: what sensors told a moment ago.
        """
        names = {source.name for source in DEVICES.get(_conditions(request)[0]).power}
        periods = [
            trace.period_s
            for trace in traces
            if any(names & reading.values.gauges.keys() for reading in trace.readings)
        ]
        return max([LEAST_POWER_SECONDS, *(READINGS_OF_POWER * period for period in periods)])

    def add_shared(
        self, request: Request, traces: Sequence[Trace], window: PowerWindow | None,
        outcome: Outcome,
    ) -> None:  # fmt: skip
        """Add what the sensors say of a launch that shared its time with others.

        Args:
            request: the launch's.
            traces: readings while all took turns.
            window: readings while this one ran alone, for its energy.
            outcome: how it ended.
        """
        if outcome.status is not Status.OK or not traces:
            return
        outcome.notes["sensors"] = summarise(traces)
        device, setting = _conditions(request)
        if throttled(traces, device):
            outcome.flags.append("throttled")
        if window is None:
            return
        idle = self._idle.get((device, setting))
        mean = power(window.traces, device, window.begin_s, window.end_s)
        used = energy(mean, idle, window.seconds, window.inferences)
        if used is not None:
            outcome.notes["energy"] = used

    def _measure_idle(self, monitor: Monitor, device: str) -> Power | None:
        if monitor.names().isdisjoint(source.name for source in DEVICES.get(device).power):
            return None
        monitor.start(fine=True)
        time.sleep(self._idle_seconds)
        monitor.stop()
        return power(monitor.traces, device)


def _while_timed(request: Request) -> bool:
    """Whether timed inferences tell their energy, too.

    Those of a processor do. A device idles between them while the host puts the next input in
    place, and its counter moves too rarely: it has a launch of its own for energy.
    """
    return DEVICES.get(_conditions(request)[0]).on_host


def _conditions(request: Request) -> tuple[str, str]:
    """Device and sensors: what idle power depends on."""
    setting = getattr(request, "sensors", AUTO) if JOBS.get(request.job).observed else NONE
    return getattr(request, "device", HOST), setting
