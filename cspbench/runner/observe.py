"""Sensors around the launches on this machine: idle power first, then every timed window."""

from __future__ import annotations

import time
import weakref
from typing import Any

from cspbench.core.statuses import Status
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.machine.sensors.summary import Power, energy, power, summarise, throttled
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

    def watch(self, job: dict[str, Any]) -> Watch:
        """Return the watch for one job: only timed windows are looked at.

        Before the first launch on a device idle power is measured, if a sensor tells of power.
        """
        device, wanted = _conditions(job)
        if job["job"] != "time":
            wanted = NONE
        if wanted not in self._watches:
            watch = Watch(chosen(wanted))
            watch.open()
            weakref.finalize(self, watch.close)
            self._watches[wanted] = watch
        watch = self._watches[wanted]
        if (device, wanted) not in self._idle:
            self._idle[device, wanted] = self._measure_idle(watch, device)
        return watch

    def add(self, job: dict[str, Any], watch: Watch, outcome: Outcome) -> None:
        """Put what the watch saw into the answer of a timed launch that went well."""
        if job["job"] != "time" or outcome.status is not Status.OK or not watch.traces:
            return
        answer = outcome.answer
        answer["sensors"] = summarise(watch.traces)
        device, wanted = _conditions(job)
        window = power(watch.traces, device)
        found = energy(
            window,
            self._idle.get((device, wanted)),
            float(answer.get("sample_seconds", 0.0)),
            len(answer.get("latencies_ns", ())),
        )
        if found is not None:
            answer["energy"] = found
        if throttled(watch.traces, device):
            answer.setdefault("flags", []).append("throttled")

    def _measure_idle(self, watch: Watch, device: str) -> Power | None:
        if watch.names().isdisjoint(source.name for source in DEVICES.get(device).power):
            return None
        watch.start()
        time.sleep(self._idle_seconds)
        watch.stop()
        return power(watch.traces, device)


def _conditions(job: dict[str, Any]) -> tuple[str, str]:
    """Device and sensors: what idle power depends on."""
    return str(job.get("device", HOST)), str(job.get("sensors", AUTO))
