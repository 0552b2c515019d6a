"""Sensors around the launches on this machine: idle power first, then every timed window."""

from __future__ import annotations

import time
import weakref

from cspbench.jobs.spec import JOBS, Request
from cspbench.machine.sensors.summary import SOURCES, Power, energy, power, summarise, throttled
from cspbench.machine.sensors.watch import AUTO, NONE, Watch, chosen
from cspbench.runner.process import Outcome

#: How long idle power is watched, once a run, before its first timed launch.
IDLE_SECONDS = 2.0


class Observer:
    """Watches the timed launches of one run; machine-local, as sensors are.

    Sensors are opened when the first launch asks for them and stay open: connecting to a service
    may take seconds.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._watches: dict[str, Watch] = {}
        self._idle: dict[tuple[str, str], Power | None] = {}

    def watch(self, request: Request) -> Watch:
        """Return the watch for one job: only timed windows are looked at.

        Before the first launch on a device idle power is measured, if a sensor tells of power.
        """
        device, wanted = _conditions(request)
        if wanted not in self._watches:
            watch = Watch(chosen(wanted))
            watch.open()
            weakref.finalize(self, watch.close)
            self._watches[wanted] = watch
        watch = self._watches[wanted]
        if (device, wanted) not in self._idle:
            self._idle[device, wanted] = self._measure_idle(watch, device)
        return watch

    def add(self, request: Request, watch: Watch, outcome: Outcome) -> None:
        """Note what the watch saw of a timed launch that went well."""
        result = outcome.checked(request.job) if JOBS.get(request.job).observed else None
        if result is None or not watch.traces:
            return
        outcome.notes["sensors"] = summarise(watch.traces)
        device, wanted = _conditions(request)
        window, idle = power(watch.traces, device), self._idle.get((device, wanted))
        found = energy(window, idle, result.sample_seconds or 0.0, len(result.latencies_ns))
        if found is not None:
            outcome.notes["energy"] = found
        if throttled(watch.traces, device):
            outcome.flags.append("throttled")

    def _measure_idle(self, watch: Watch, device: str) -> Power | None:
        if watch.names().isdisjoint(SOURCES.get(device, ())):
            return None
        watch.start()
        time.sleep(self._idle_seconds)
        watch.stop()
        return power(watch.traces, device)


def _conditions(request: Request) -> tuple[str, str]:
    """Device and sensors: what idle power depends on."""
    wanted = getattr(request, "sensors", AUTO) if JOBS.get(request.job).observed else NONE
    return getattr(request, "device", "cpu"), wanted
