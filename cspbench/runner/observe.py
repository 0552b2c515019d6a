"""Sensors around the launches on this machine: idle power first, then every timed window."""

from __future__ import annotations

import time
from typing import Any

from cspbench.runner.process import Outcome
from cspbench.sensors.summary import SOURCES, Power, energy, power, summarise, throttled
from cspbench.sensors.watch import AUTO, Watch, chosen
from cspbench.vocabulary import Status

#: How long idle power is watched, once a run, before its first timed launch.
IDLE_SECONDS = 2.0


class Observer:
    """Watches the launches of one run; machine-local, as sensors are."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._idle: dict[tuple[str, str], Power | None] = {}

    def watch(self, job: dict[str, Any]) -> Watch:
        """Return a watch for one job, not yet open: only timed windows are looked at."""
        return Watch(chosen(str(job.get("sensors", AUTO))) if job["job"] == "time" else [])

    def prepare(self, job: dict[str, Any], watch: Watch) -> None:
        """Measure idle power with the open watch, unless this run has it."""
        key = _key(job)
        if job["job"] == "time" and key not in self._idle:
            self._idle[key] = self._measure_idle(watch, key[0])

    def add(self, job: dict[str, Any], watch: Watch, outcome: Outcome) -> None:
        """Put what the watch saw into the answer of a timed launch that went well."""
        if job["job"] != "time" or outcome.status is not Status.OK or not watch.traces:
            return
        answer, device = outcome.answer, _key(job)[0]
        answer["sensors"] = summarise(watch.traces)
        window = power(watch.traces, device)
        seconds = answer.get("sample_seconds")
        if window is not None and seconds is None:
            seconds = window.window_s
        found = energy(window, self._idle.get(_key(job)), seconds or 0.0,
                       len(answer.get("latencies_ns", ())))  # fmt: skip
        if found is not None:
            answer["energy"] = found
        if throttled(watch.traces):
            answer.setdefault("flags", []).append("throttled")

    def _measure_idle(self, watch: Watch, device: str) -> Power | None:
        watch.start()
        watch.stop()  # one look or two, to learn whether anything here tells of power
        names = {
            name
            for trace in watch.traces
            for look in trace.looks
            for name in (*look.reading.gauges, *look.reading.counters)
        }
        if names.isdisjoint(SOURCES.get(device, ())):
            return None
        watch.start()
        time.sleep(self._idle_seconds)
        watch.stop()
        return power(watch.traces, device)


def _key(job: dict[str, Any]) -> tuple[str, str]:
    """Device and sensors: what idle power depends on."""
    return str(job.get("device", "cpu")), str(job.get("sensors", AUTO))
