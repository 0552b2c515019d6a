"""Which launches tell energy, and from which readings."""

from pathlib import Path

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.jobs.energy import EnergyRequest
from cspbench.jobs.time import TimeRequest
from cspbench.machine.sensors.monitor import TimedReading, Trace
from cspbench.machine.sensors.spec import SENSORS, Reading
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.observe import Observer
from cspbench.runner.process import Outcome


class Card:
    """A sensor of a graphics card and of a processor; it draws 50 W."""

    name, summary, rate_hz, on_request = "card", "for tests", 10.0, False

    def __init__(self):
        self.joules = 0.0

    def available(self):
        return None

    def open(self):
        return self

    def read(self):
        return Reading({}, self.counters())

    def counters(self):
        self.joules += 0.5
        return {"gpu_energy_j": self.joules, "cpu_energy_j": self.joules}

    def close(self):
        pass


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setitem(SENSORS._entries, "card", Card())


def request(kind, device, **more):
    backend = "torch-cuda" if device == "cuda" else "torch-cpu"
    case = Case.parse(f"peleenet@64/{backend}/b1/t1")
    return kind(case, Path("none.pt2"), device=device, sensors="card", **more)


class Readings:
    """What a monitor holds after a window: 10 J in each 0.1 s from second 7 on, none before."""

    def __init__(self):
        fine = [
            TimedReading(
                i / 100, Reading({}, {"gpu_energy_j": max(0, i // 10 - 70) * 10.0})
            )
            for i in range(1300)
        ]  # fmt: skip
        self.traces = [Trace("card", 0.1, fine=fine, readings=[fine[0], fine[-1]])]


def test_energy_is_that_between_the_times_that_the_worker_tells(card):
    observer, asked = Observer(idle_seconds=0.1), request(EnergyRequest, "cuda")
    observer.monitor(asked)
    answer = {"inferences": 1000, "begin_s": 7.0, "end_s": 12.0}
    outcome = Outcome(Status.OK, answer=answer)
    observer.add(asked, Readings(), outcome)
    # 100 W for 5 s and 1000 inferences: 0.5 J each; the 7 s before are not theirs.
    assert outcome.notes["energy"]["power_w"] == pytest.approx(100.0)
    assert outcome.notes["energy"]["energy_per_inference_j"] == pytest.approx(0.5)


@pytest.mark.parametrize(("device", "told"), [("cpu", True), ("cuda", False)])
def test_only_a_processors_timed_launches_tell_energy(card, device, told):
    """Between the inferences of a device it idles, and its counter is too slow."""
    observer, asked = Observer(idle_seconds=0.1), request(TimeRequest, device)
    observer.monitor(asked)
    assert observer.powered(asked) is told


def test_without_a_sensor_of_power_no_worker_is_started_for_energy(monkeypatch):
    def none(*_arguments, **_more):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("cspbench.runner.executor.WorkerProcess", none)
    asked = request(EnergyRequest, "cuda")
    outcome = LocalExecutor().launch(EnergyRequest(asked.case, asked.artifact, device="cuda",
                                                   sensors="proc"), 1, 10.0)  # fmt: skip
    assert outcome.status is Status.UNAVAILABLE
    assert outcome.reason == "no sensor of this machine gives the power of the device cuda"
