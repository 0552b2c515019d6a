"""Energy of an inference on a device whose power, and whose counter's habits, are known exactly.

The device draws 110 W when idle. An inference draws 340 W for two thirds of its time and 220 W for
the rest. Its counter of energy stands still between two renewals, as NVML's does.
"""

import random
import time

import numpy as np
import pytest

from cspbench.jobs.energy import ENERGY_SECONDS, RAMP_SECONDS, back_to_back
from cspbench.machine.sensors.monitor import FINE_HZ, Monitor, TimedReading, Trace
from cspbench.machine.sensors.spec import Reading
from cspbench.machine.sensors.summary import energy, power

IDLE_W, HIGH_W, LOW_W = 110.0, 340.0, 220.0
STEP_S = 0.0001


class Device:
    """Time, inferences and their power on a grid of 0.1 ms."""

    def __init__(self, latency_s, collecting_s=0.2):
        self.latency_s, self.now_s = latency_s, collecting_s
        self.begins = []

    def one(self, _number):
        self.begins.append(self.now_s)
        self.now_s += self.latency_s

    def clock(self):
        return self.now_s

    def joules(self):
        """Energy since time 0 on the grid."""
        watts = np.full(round(self.now_s / STEP_S) + 2000, IDLE_W)
        for begin in self.begins:
            middle, end = begin + self.latency_s * 2 / 3, begin + self.latency_s
            first, turn, last = (round(t / STEP_S) for t in (begin, middle, end))
            watts[first:turn], watts[turn:last] = HIGH_W, LOW_W
        return np.concatenate([[0.0], np.cumsum(watts) * STEP_S])


def fine_readings(joules, period_s, generator, end_s):
    """What a thread reads that is due FINE_HZ times a second and late by up to 3 ms."""
    renewed = generator.uniform(0, period_s)  # when the counter was renewed first
    readings, due = [], 0.0
    while due < end_s:
        at = due + generator.uniform(0, 0.003)
        last = renewed + max(0, (at - renewed) // period_s) * period_s
        counted = float(joules[round(last / STEP_S)]) if at >= renewed else 0.0
        readings.append(TimedReading(at, Reading({}, {"gpu_energy_j": counted})))
        due += 1 / FINE_HZ
    return readings


@pytest.mark.parametrize("period_s", [0.02, 0.1])
@pytest.mark.parametrize("latency_s", [0.0004, 0.012, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_energy_is_within_3_percent_of_the_truth(period_s, latency_s, seed):
    device = Device(latency_s)
    result = back_to_back(device.one, ENERGY_SECONDS, device.clock)
    assert result.begin_s >= 0.2 + RAMP_SECONDS
    assert result.seconds >= ENERGY_SECONDS
    joules = device.joules()
    first, last = (round(t / STEP_S) for t in (result.begin_s, result.end_s))
    truth = (joules[last] - joules[first]) / result.inferences
    generator = random.Random(seed)
    trace = Trace("nvml", 0.1, fine=fine_readings(joules, period_s, generator, device.now_s + 0.1))
    mean = power([trace], "cuda", result.begin_s, result.end_s)
    use = energy(mean, None, result.seconds, result.inferences)
    assert use["energy_per_inference_j"] == pytest.approx(truth, rel=0.03)
    assert use["period_s"] == pytest.approx(period_s, rel=0.05)  # how often it was renewed


def test_what_is_idle_before_and_after_does_not_count():
    """A window that begins with 0.3 s of idling, as a collection of garbage makes one."""
    device = Device(0.0012, collecting_s=0.3)
    result = back_to_back(device.one, 1.0, device.clock)
    joules = device.joules()
    trace = Trace("nvml", 0.1, fine=fine_readings(joules, 0.02, random.Random(1), device.now_s))
    inside = power([trace], "cuda", result.begin_s, result.end_s)
    assert inside.watts == pytest.approx((2 * HIGH_W + LOW_W) / 3, rel=0.01)
    whole = power([trace], "cuda")
    assert whole.watts < 0.95 * inside.watts


def test_a_counter_that_hardly_moved_gives_no_number():
    readings = [
        TimedReading(i / 100, Reading({}, {"gpu_energy_j": 5.0 * (i // 100)})) for i in range(300)
    ]
    assert power([Trace("nvml", 0.1, fine=readings)], "cuda") is None


class Card:
    """A sensor of 250 W whose counter is renewed every 20 ms of the real clock."""

    name, summary, rate_hz, on_request = "card", "for tests", 10.0, False

    def available(self):
        return None

    def open(self):
        return self

    def read(self):
        return Reading({"gpu_clock_mhz": 1500.0}, self.counters())

    def counters(self):
        return {"gpu_energy_j": 250.0 * (time.monotonic() // 0.02) * 0.02}

    def close(self):
        pass


def test_a_monitor_finds_the_changes_of_a_real_clock():
    with Monitor([Card()]) as monitor:
        monitor.phase("sample", fine=True)
        time.sleep(1.5)
        monitor.phase("close")
    (trace,) = monitor.traces
    assert len(trace.fine) > 3 * len(trace.readings)
    mean = power(monitor.traces, "cuda")
    assert mean.method == "gpu_energy_j between two of its changes (card)"
    assert mean.watts == pytest.approx(250.0, rel=0.03)
    # Nothing is read so often where it is not asked for.
    with Monitor([Card()]) as monitor:
        monitor.phase("sample")
        time.sleep(0.1)
        monitor.phase("close")
    assert monitor.traces[0].fine == []
