"""The jobs of a worker that takes bursts, in this process and with an invented session."""

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cspbench.backends.spec import GAPS_INCLUDED, LayerProfile
from cspbench.core.case import Case
from cspbench.jobs import burst
from cspbench.jobs import load as load_job
from cspbench.jobs.burst import MOST_PROFILED, PROFILED_A_BURST, BurstRequest
from cspbench.jobs.extra import ExtraWork
from cspbench.jobs.load import Kept, LoadRequest, conditions, is_clock
from cspbench.jobs.spec import JobFailedError, to_plain
from cspbench.jobs.time import Turns, flags
from cspbench.machine.sensors.nvml import Clocks
from tests.launches import stored_launch

REQUEST = LoadRequest(Case.parse("peleenet@64/opencv-cpu/b1/t1"), Path("none.onnx"))


class Session:
    """An inference takes about a millisecond. It counts inputs and runs."""

    def __init__(self):
        self.inputs, self.runs = [], 0

    def set_input(self, array):
        self.inputs.append(array)

    def run(self):
        self.runs += 1
        time.sleep(0.001)


class DeviceSession(Session):
    """Has a clock of its own."""

    def device_times(self, count):
        return {"device_ns": 250_000, "enqueue_ns": 1}


@pytest.fixture
def load(monkeypatch):
    def keep(session, on_host=True, by_device=False):
        def feed(number):
            session.set_input(number % 3)

        loaded = Kept(REQUEST, session, feed, session.run, on_host, by_device)
        monkeypatch.setattr(load_job, "_kept", loaded)
        return session

    return keep


def ask(count):
    return burst.burst(BurstRequest(count), lambda phase: None)


def test_a_burst_runs_so_many_inferences_on_changing_inputs(load):
    session = load(Session())
    answer = ask(4)
    assert (answer.count, session.runs) == (4, 4)
    assert session.inputs == [0, 1, 2, 0]
    ask(2)
    assert session.inputs[4:] == [1, 2]  # goes on where the last burst ended
    assert answer.ns >= 4_000_000
    json.dumps(to_plain(answer))


def test_time_that_the_process_did_not_run_is_lost(load):
    load(Session())
    answer = ask(5)
    # It slept: nearly all of its time was lost, and never more than all.
    assert 0.5 * answer.ns < answer.lost_ns <= answer.ns


def test_time_that_the_host_waits_for_a_device_is_not_lost(load, monkeypatch):
    monkeypatch.setattr(burst, "_waited_ns", lambda: {"1": 0})  # no other process runs
    load(Session(), on_host=False)
    assert ask(5).lost_ns == 0
    load(Session())
    assert ask(5).lost_ns > 0


def test_a_burst_tells_when_it_began_by_the_clock_of_all_processes(load):
    load(Session())
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    first, second = (burst.burst(BurstRequest(2), lambda _: None) for _ in range(2))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= first.began_ns <= second.began_ns - first.wall_ns < after


def test_a_device_that_cannot_be_held_back_any_more_ends_its_bursts(load):
    """Its times would hold gaps of submitting, and those of its earlier bursts do not."""
    session = load(DeviceSession(), on_host=False, by_device=True)
    assert is_clock(session)
    assert ask(4).ns == 1_000_000
    session.device_times = lambda count: {"device_ns": 300_000, GAPS_INCLUDED: 1}
    with pytest.raises(JobFailedError, match="held back no more"):
        ask(4)
    assert not is_clock(session)  # in a fresh worker the host's clock counts


def test_a_device_has_its_own_clock(load):
    load(DeviceSession(), on_host=False, by_device=True)
    assert (ask(4).ns, ask(4).lost_ns) == (1_000_000, None)
    load(DeviceSession(), on_host=False)  # a scope that is more than the device's work
    assert ask(4).ns >= 4_000_000


class Profiled:
    """A profiled inference takes 3 ms; it writes down when it ran beside the plain ones."""

    def __init__(self, plain):
        self._plain = plain
        self.after = []

    def run(self, array):
        self.after.append(self._plain.runs)
        time.sleep(0.003)
        return 3_000_000

    def profile(self):
        return LayerProfile((), 3_000_000, len(self.after), "a clock")


def test_profiled_bursts_are_behind_two_plain_ones_and_before_two(load):
    session = load(Session())
    loaded = load_job.kept()
    loaded.profiled, loaded.inputs = Profiled(session), [None]
    answers = [ask(2) for _ in range(3)]
    # Plain 1 and 2, profiled; plain 3 and 4, profiled; profiled, plain 5 and 6.
    assert loaded.profiled.after == [2, 2, 4, 4, 4, 4]
    # Busy with the profiled burst, too, which is none of the plain burst's own time.
    assert all(answer.busy_ns > answer.own_ns for answer in answers)
    # 3 ms for a plain inference of at least 1 ms, on a busy machine of more.
    assert all(0 < answer.profiled <= 3 for answer in answers)


def test_profiled_inferences_are_bounded(load):
    session = load(Session())
    loaded = load_job.kept()
    loaded.profiled, loaded.inputs = Profiled(session), [None]
    ask(PROFILED_A_BURST + 5)
    assert len(loaded.profiled.after) == PROFILED_A_BURST
    loaded.profiled_done = MOST_PROFILED
    assert ask(1).profiled is None


def test_extra_work_takes_a_share_of_the_time_of_each_inference():
    times = [0.002, 0.006]
    slower = ExtraWork(lambda: time.sleep(times.pop()), 0.5)
    for least_ns in (9_000_000, 3_000_000):  # 1.5 times 6 ms, 1.5 times 2 ms
        start = time.perf_counter_ns()
        slower()
        assert time.perf_counter_ns() - start >= least_ns


def test_the_burst_without_extra_work_comes_after_two_bursts_and_before_two(load):
    """Where sides alternate (ABBA), each is as often the first one after the other side's."""
    load(Session())
    loaded, extra, order = load_job.kept(), [True], []
    loaded.infer = lambda: order.append("with" if extra[0] else "without")
    loaded.switch_extra = lambda on: extra.__setitem__(0, on)
    loaded.request = replace(REQUEST, calibrated=True)
    for _ in range(4):
        ask(1)
    assert order == ["with", "without"] * 2 + ["without", "with"] * 2


def test_calibrated_extra_work_has_a_burst_without_it_beside_each_burst(load):
    """The clock of the extra work is the test's own: each look is 10 us later."""
    session, ticks = load(Session()), itertools.count(step=10_000)
    loaded = load_job.kept()
    longer = ExtraWork(session.run, 1.5, lambda: next(ticks))
    loaded.infer, loaded.switch_extra = longer, longer.switch
    assert ask(1).without_extra is None  # nobody asked for the size
    loaded.request = replace(REQUEST, calibrated=True)
    session.runs = 0
    answers = [ask(2) for _ in range(2)]
    assert session.runs == 8
    assert [answer.without_extra.count for answer in answers] == [2, 2]
    assert all(answer.without_extra.without_extra is None for answer in answers)
    before = next(ticks)
    loaded.infer()
    # It is on again: start, end, and two looks until 1.5 inferences have passed.
    assert next(ticks) - before == 50_000
    longer.switch(False)
    before = next(ticks)
    loaded.infer()
    assert next(ticks) - before == 40_000


def test_conditions_are_those_of_the_process():
    assert conditions().nice == os.nice(0)
    assert conditions() == conditions()


class Card:
    """pynvml of a card that heat holds for 30 ms before the second burst."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1
    #: Seconds by reason at each reading: of heat by software and by hardware, of the power limit.
    HELD = ((1.0, 1.0, 5.0), (1.0, 1.0, 5.5), (1.03, 1.02, 6.0))

    def __init__(self):
        self.clocks, self.held = iter([1980, 1410]), iter(self.HELD)

    def nvmlDeviceGetClockInfo(self, device, clock):  # noqa: N802 - pynvml's name
        return next(self.clocks)

    def nvmlDeviceGetFieldValues(self, device, ids):  # noqa: N802
        seconds = dict(zip((269, 270, 74), next(self.held), strict=True))
        return [
            SimpleNamespace(fieldId=number, nvmlReturn=0 if number in seconds else 3,
                            value=SimpleNamespace(ullVal=round(seconds.get(number, 0) * 1e9)))
            for number in ids
        ]  # fmt: skip


def test_each_burst_has_the_clock_and_the_throttling_of_its_card(load):
    load(DeviceSession(), on_host=False)
    assert (ask(1).clock_mhz, ask(1).throttled_ns) == (None, None)  # no card that tells
    load_job.kept().clocks = Clocks(Card(), 0)
    first, second = ask(1), ask(1)
    # At the power limit large devices work: that is no throttling.
    assert (first.clock_mhz, first.throttled_ns) == (1980, 0)
    assert (second.clock_mhz, second.throttled_ns) == (1410, 30_000_000)


@pytest.mark.parametrize(("throttled", "flagged"), [(0, False), (5, False), (6, True), (100, True)])
def test_a_launch_of_which_over_a_twentieth_was_throttled_is_flagged(throttled, flagged):
    turns = Turns("b", [1] * 100, throttled_ns=[7] * throttled + [0] * (100 - throttled))
    result = replace(
        stored_launch("m@64/cpu/b1/t1", ms=[1.0] * 100).result, turns=turns
    )  # fmt: skip
    assert ("throttled" in flags(result)) is flagged


def test_a_result_becomes_the_plain_values_that_dataclasses_give():
    """Fields that are None are left out on top; inside they stay."""

    @dataclass
    class Part:
        name: str | None
        numbers: tuple[float, ...]

    @dataclass
    class Whole:
        parts: list[Part]
        by_name: dict[str, Part]
        missing: int | None
        counts: list[int | None]

    part = Part(None, (1.0, 2.0))
    whole = Whole([part], {"a": part}, None, [1, None])
    plain = {"name": None, "numbers": (1.0, 2.0)}
    assert to_plain(whole) == {"parts": [plain], "by_name": {"a": plain}, "counts": [1, None]}
    assert to_plain(whole) == {
        name: value for name, value in asdict(whole).items() if value is not None
    }
    assert to_plain(whole)["counts"] is not whole.counts
