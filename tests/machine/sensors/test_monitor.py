"""Reading sensors beside a launch: at their rates, in the window only, whatever they do."""

import gc
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.jobs.energy import EnergyRequest
from cspbench.jobs.memory import MemoryRequest
from cspbench.jobs.time import TimeRequest
from cspbench.machine.sensors.monitor import Monitor, select_sensors
from cspbench.machine.sensors.spec import SENSORS, Reading
from cspbench.runner import observe as observe_module
from cspbench.runner.observe import Observer, PowerWindow
from cspbench.runner.process import Outcome
from cspbench.store.launch import Energy
from cspbench.store.records import Record
from tests.launches import TIMED, stored_launch


@dataclass
class Fake:
    """A sensor that gives the power ``watts``; its counter grows by it with real time."""

    name: str = "fake"
    summary: str = "invented"
    rate_hz: float = 50.0
    on_request: bool = False
    watts: float = 8.0
    fails_at: int | None = None
    refuses: bool = False
    reads: list = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def available(self):
        return None

    def open(self):
        if self.refuses:
            raise OSError("permission denied")
        self.opened += 1
        return self

    def read(self):
        if self.fails_at is not None and len(self.reads) >= self.fails_at:
            raise OSError("unplugged")
        self.reads.append((time.monotonic(), threading.current_thread().name))
        return Reading({"board_power_w": self.watts})

    def close(self):
        self.closed += 1


def test_a_sensor_is_read_at_its_rate_and_at_both_ends_of_the_window():
    slow = Fake(rate_hz=0.01)
    fast = Fake(name="fast", rate_hz=100.0)
    with Monitor([slow, fast]) as monitor:
        begin = time.monotonic()
        monitor.start()
        time.sleep(0.2)
        monitor.stop()
        end = time.monotonic()
    assert len(slow.reads) == 2  # its period is 100 s: only the ends
    # 100 Hz for 0.2 s: never more than its rate allows, however late the thread runs.
    assert 3 <= len(fast.reads) <= 0.2 * 1.0 * 100 + (end - begin - 0.2) * 100 + 3
    for sensor in (slow, fast):
        assert all(begin <= seconds <= end for seconds, _ in sensor.reads)
        assert {thread for _, thread in sensor.reads} == {"sensors"}
        assert (sensor.opened, sensor.closed) == (1, 1)
    assert [len(trace.readings) for trace in monitor.traces] == [len(slow.reads), len(fast.reads)]
    assert all(trace.cost_s < trace.window_s for trace in monitor.traces)


def test_only_the_sampling_phase_is_watched():
    sensor = Fake()
    with Monitor([sensor]) as monitor:
        for phase in ("load", "warm-up"):
            monitor.phase(phase)
            assert sensor.reads == []
        monitor.phase("sample")
        time.sleep(0.05)
        monitor.phase("close")
        seen = len(sensor.reads)
        time.sleep(0.05)
    assert len(sensor.reads) == seen >= 2


def test_a_second_window_forgets_the_first():
    sensor = Fake()
    with Monitor([sensor]) as monitor:
        for _ in range(2):
            monitor.start()
            time.sleep(0.02)
            monitor.stop()
        second = len(monitor.traces[0].readings)
    assert 2 <= second < len(sensor.reads)


def test_a_sensor_that_goes_away_or_is_shut_costs_only_itself():
    gone, shut, good = Fake("gone", fails_at=2), Fake("shut", refuses=True), Fake("good")
    with Monitor([gone, shut, good]) as monitor:
        monitor.start()
        time.sleep(0.1)
        monitor.stop()
    traces = {trace.sensor: trace for trace in monitor.traces}
    assert (traces["gone"].problem, len(traces["gone"].readings)) == ("unplugged", 2)
    assert (traces["shut"].problem, traces["shut"].readings) == ("permission denied", [])
    assert traces["good"].problem == ""
    assert len(traces["good"].readings) > 2
    assert (gone.closed, shut.closed, good.closed) == (1, 0, 1)


def test_what_was_published_before_the_window_or_seen_already_is_no_look():
    class Service(Fake):
        """Publishes every 0.1 s; the value says when."""

        def read(self):
            now = time.monotonic()
            published = now - now % 0.1
            return Reading({"board_power_w": published}, seconds=published)

    with Monitor([Service(rate_hz=100.0)]) as monitor:
        begin = time.monotonic()
        monitor.start()
        time.sleep(0.35)
        monitor.stop()
    times = [reading.seconds for reading in monitor.traces[0].readings]
    assert all(seconds >= begin for seconds in times)
    assert len(times) == len(set(times)) <= 5
    assert all(reading.values.gauges["board_power_w"] == reading.seconds
               for reading in monitor.traces[0].readings)  # fmt: skip


def test_no_sensor_no_thread():
    with Monitor([]) as monitor:
        monitor.start()
        assert not [t for t in threading.enumerate() if t.name == "sensors"]
    assert monitor.traces == []


def test_a_worker_that_dies_leaves_no_thread():
    def interrupted():
        with Monitor([Fake()]) as monitor:
            monitor.phase("sample")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [thread for thread in threading.enumerate() if thread.name == "sensors"]


def test_which_sensors_are_chosen():
    assert select_sensors("none") == []
    assert "jtop" not in [sensor.name for sensor in select_sensors("auto")]
    assert [sensor.name for sensor in select_sensors("proc")] == ["proc"]
    with pytest.raises(ValueError, match="unknown sensor 'prok' \\(did you mean 'proc'"):
        select_sensors("proc, prok")


def test_a_named_sensor_that_is_not_there_is_noted_with_its_reason(monkeypatch):
    class Absent(Fake):
        def available(self):
            return "no service runs"

    monitor = Monitor([Absent(), Fake(name="here")])
    with monitor:
        monitor.start()
        monitor.stop()
    problems = {trace.sensor: trace.problem for trace in monitor.traces}
    assert problems == {"here": "", "fake": "no service runs"}
    monkeypatch.setattr("cspbench.machine.sensors.monitor.SENSORS", [Absent()])
    assert [sensor.name for sensor in select_sensors("fake")] == ["fake"]
    assert select_sensors("auto") == []


def test_a_service_tells_its_own_pace_and_what_its_thread_took():
    class Served(Fake):
        period_s, took = 0.5, 0.0

        def spent_s(self):
            spent, self.took = self.took, 0.25
            return spent

    with Monitor([Served()]) as monitor:
        monitor.start()
        monitor.stop()
    (trace,) = monitor.traces
    assert trace.period_s == 0.5  # not 1 / 50 Hz
    assert trace.cost_s >= 0.25  # what went before the window is not in it


def test_every_sensor_tells_what_it_is_and_never_raises_when_asked():
    names = {sensor.name for sensor in SENSORS}
    assert {"proc", "cpufreq", "thermal", "rapl", "nvml", "tegra", "jtop"} <= names
    for sensor in SENSORS:
        assert sensor.summary
        assert 0 < sensor.rate_hz <= 10  # no busy polling
        reason = sensor.available()
        assert reason is None or (reason and "\n" not in reason)


# What the executor makes of it --------------------------------------------------------------------

CASE = Case.parse("m@64/cpu/b1/t1")
JOB = TimeRequest(CASE, Path("m.onnx"), sensors="auto")


@pytest.fixture
def sensor(monkeypatch):
    made = Fake(watts=8.0)
    monkeypatch.setattr(observe_module, "select_sensors", lambda wanted: [made])
    return made


def timed(**answer):
    found = {**TIMED, "latencies_ns": [10_000_000] * 40, "sample_seconds": 0.5}
    return Outcome(Status.OK, answer={**found, **answer})


def test_a_timed_launch_gets_sensors_and_energy_and_idle_power_once(sensor):
    observer = Observer(idle_seconds=0.1)
    for number in range(2):
        sensor.watts = 3.0 if number == 0 else 99.0  # idle is measured before the first only
        outcome = timed()
        monitor = observer.monitor(JOB)
        sensor.watts = 8.0
        monitor.phase("sample")
        time.sleep(0.1)
        monitor.phase("close")
        window = PowerWindow(monitor.traces, 0.5, 40)
        observer.add_shared(JOB, monitor.traces, window, outcome)
        found = outcome.notes["energy"]
        # 8 W * 0.5 s / 40 inferences = 0.1 J.
        assert found["energy_per_inference_j"] == pytest.approx(0.1)
        assert found["power_w"] == pytest.approx(8.0)
        assert found["idle_power_w"] == pytest.approx(3.0)
        assert found["energy_method"] == "integral of board_power_w (fake, 50 Hz)"
        assert outcome.notes["sensors"]["fake"]["gauges"]["board_power_w"]["mean"] == 8.0
        assert outcome.flags == []
    assert (sensor.opened, sensor.closed) == (1, 0)  # connected once for all launches
    del observer
    gc.collect()
    assert sensor.closed == 1


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        (MemoryRequest(CASE, Path("m.onnx")), timed()),
        (EnergyRequest(CASE, Path("m.onnx")), Outcome(Status.CRASHED, "it died")),
    ],
)
def test_other_jobs_and_failed_ones_get_nothing(sensor, job, outcome):
    observer = Observer(idle_seconds=0.0)
    monitor = observer.monitor(job)
    monitor.phase("sample")
    monitor.phase("close")
    observer.add(job, monitor, outcome)
    assert (outcome.notes, outcome.flags) == ({}, [])


def test_the_energy_of_a_case_is_the_median_of_its_launches():
    def launch(joules, method="counter", idle=2.0):
        return stored_launch(CASE.id, energy=asdict(Energy(joules, 10 * joules, idle, method)))

    without = stored_launch(CASE.id)
    good = (launch(0.3), launch(0.1, idle=None), launch(99.0, "gauge"), launch(0.2), without)
    record = Record("id", Status.OK, "", (), good, good)
    assert record.energy == Energy(0.2, 2.0, 2.0, "counter")
    assert Record("id", Status.OK, "", (), (), (without,)).energy is None


def test_without_a_power_source_no_time_is_spent_on_idling(sensor, monkeypatch):
    monkeypatch.setattr(type(sensor), "read", lambda self: Reading({"load_1m": 0.5}))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    observer, outcome = Observer(), timed()
    monitor = observer.monitor(JOB)
    monitor.phase("sample")
    monitor.phase("close")
    observer.add(JOB, monitor, outcome)
    assert "energy" not in outcome.notes
    assert outcome.notes["sensors"]["fake"]["readings"] >= 2
