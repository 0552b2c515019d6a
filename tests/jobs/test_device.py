"""The launches of a device's own time and of its energy, with invented sessions and clocks."""

from pathlib import Path

import pytest

from cspbench.backends.common.device_clock import DeviceSamples
from cspbench.backends.spec import BACKENDS, Kernels
from cspbench.core.case import Case
from cspbench.errors import Unsupported
from cspbench.jobs import device, energy
from cspbench.jobs.device import DeviceRequest, on_device
from cspbench.jobs.energy import RAMP_SECONDS, back_to_back
from cspbench.jobs.spec import JOBS, to_plain
from cspbench.runner.plan import applies

CASE = "peleenet@64/torch-cuda/b1/t1"
END_TO_END = "peleenet@64/torch-cuda[scope=end_to_end]/b1/t1"


class Session:
    """Kernels of 0.8 ms in a span of 2 ms, and a transfer of 0.3 ms each way."""

    def __init__(self):
        self.staged, self.chosen, self.closed = [], [], False

    def set_input(self, feed):
        pass

    def run(self):
        pass

    def infer(self, feed):
        pass

    def stage(self, feeds):
        self.staged = list(feeds)

    def choose(self, number):
        self.chosen.append(number)

    def device_samples(self, count, seconds):
        return DeviceSamples([800_000] * 3, [2_000_000] * 3, [1_900_000] * 3)

    def medians(self, samples):
        return {"device_ns": 800_000, "span_ns": 2_000_000, "enqueue_ns": 1_900_000}

    def parts(self, feeds):
        return {"input_ns": 300_000, "span_ns": 2_000_000, "output_ns": 300_000}

    def kernels(self):
        return Kernels(count=200, busy_ns=780_000)

    def close(self):
        self.closed = True


@pytest.fixture
def session(monkeypatch):
    made = Session()
    monkeypatch.setattr(DeviceRequest, "load", lambda request: made)
    monkeypatch.setattr(DeviceRequest, "inputs", lambda request, count=None: ["a", "b"])
    return made


def look(case):
    phases = []
    result = device.perform(DeviceRequest(Case.parse(case), Path("none")), phases.append)
    assert phases == ["load", "warm-up", "sample", "close"]
    return result


def test_a_launch_of_its_own_tells_the_devices_time_its_kernels_and_its_waiting(session):
    result = look(CASE)
    assert session.staged == ["a", "b"]
    assert session.closed
    assert result.device_ns == [800_000] * 3  # every sample is kept
    assert result.waiting == pytest.approx(0.6)
    assert result.parts == {}
    kind = JOBS.get("device")
    row = {name: column(Case.parse(CASE), result) for name, column in kind.columns.items()}
    assert row == {"device_ms": 0.8, "device_waiting": pytest.approx(0.6), "kernels": 200,
                   "kernel_ms": 0.78}  # fmt: skip
    assert kind.read(to_plain(result)) == result
    assert kind.found(result) == "0.800 ms on the device, which waits 60% of its time"


def test_scope_end_to_end_is_told_by_its_parts(session):
    assert look(END_TO_END).parts["input_ns"] == 300_000


def test_a_session_without_events_is_no_use(session, monkeypatch):
    monkeypatch.setattr(DeviceRequest, "load", lambda request: object())
    with pytest.raises(Unsupported, match="torch-cuda does not tell the device's own times"):
        look(CASE)


def test_only_cases_on_a_device_are_looked_at():
    assert not applies("device", "peleenet@64/torch-cpu/b1/t1")
    assert not applies("device", "peleenet@64/onnxruntime/b1/t1")
    assert applies("device", "peleenet@64/onnxruntime[provider=cuda]/b1/t1")
    assert on_device(BACKENDS.get("torch-cuda"), {})
    assert applies("memory", "peleenet@64/torch-cpu/b1/t1")


def test_inferences_that_count_follow_a_ramp_without_a_pause():
    now, numbers = [100.0], []

    def one(number):
        numbers.append(number)
        now[0] += 0.3

    result = back_to_back(one, 5.0, lambda: now[0])
    assert numbers == list(range(len(numbers)))
    # The ramp is over at the first inference that ends after it: 4 x 0.3 s.
    assert result.begin_s == pytest.approx(100.0 + 1.2)
    assert RAMP_SECONDS == 1.0
    assert (result.inferences, result.seconds) == (17, pytest.approx(5.1))


def test_a_single_long_inference_counts_as_one():
    now = [0.0]

    def one(_number):
        now[0] += 20.0

    result = back_to_back(one, 5.0, lambda: now[0])
    assert (result.inferences, result.seconds) == (1, 20.0)


def test_garbage_is_collected_before_the_sensors_look(monkeypatch, session):
    order = []
    monkeypatch.setattr(energy.gc, "collect", lambda: order.append("collect"))
    monkeypatch.setattr(energy.gc, "disable", lambda: None)
    monkeypatch.setattr(energy, "ENERGY_SECONDS", 0.01)
    monkeypatch.setattr(energy, "RAMP_SECONDS", 0.0)
    monkeypatch.setattr(energy.EnergyRequest, "load", lambda request: session)
    monkeypatch.setattr(energy.EnergyRequest, "inputs", lambda request, count=None: ["a", "b"])
    request = energy.EnergyRequest(Case.parse(CASE), Path("none"))
    result = energy.perform(request, order.append)
    assert order == ["load", "warm-up", "collect", "sample", "close"]
    assert result.inferences > 1
    assert set(session.chosen[-4:]) == {0, 1}  # inputs wait on the device
