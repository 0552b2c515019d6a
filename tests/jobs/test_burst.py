"""The jobs of a worker that takes bursts, in this process and with an invented session."""

import json
import os
import time

import pytest

from cspbench.jobs import burst
from cspbench.jobs.burst import BurstRequest, ExtraWork, _Loaded, conditions
from cspbench.jobs.spec import to_plain


class Session:
    """Takes about a millisecond; counts what it is asked."""

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
def hold(monkeypatch):
    def held(session, clock="device"):
        def feed(number):
            session.set_input(number % 3)

        monkeypatch.setattr(burst, "_loaded", _Loaded(session, feed, session.run, 1, clock))
        return session

    return held


def ask(count):
    return burst.burst(BurstRequest(count), lambda phase: None)


def test_a_burst_runs_so_many_inferences_on_changing_inputs(hold):
    session = hold(Session())
    answer = ask(4)
    assert (answer.count, session.runs) == (4, 4)
    assert session.inputs == [0, 1, 2, 0]
    ask(2)
    assert session.inputs[4:] == [1, 2]  # goes on where the last burst ended
    assert answer.ns >= 4_000_000
    json.dumps(to_plain(answer))


def test_time_that_the_process_did_not_run_is_lost(hold):
    hold(Session())
    answer = ask(5)
    # It slept: nearly all of its time was lost, and never more than all.
    assert 0.5 * answer.ns < answer.lost_ns <= answer.ns


def test_a_device_has_its_own_clock(hold):
    hold(DeviceSession())
    assert (ask(4).ns, ask(4).lost_ns) == (1_000_000, None)
    hold(DeviceSession(), clock="host")
    assert ask(4).ns >= 4_000_000


def test_fractions_of_extra_work_are_carried_over(monkeypatch):
    done = []
    extra = ExtraWork(0.4)
    monkeypatch.setattr(extra, "work", done.append)
    for _ in range(10):
        extra.after_inference()
    # 0.4 units each: a unit in the 3rd, 5th, 8th and 10th inference.
    assert done == [0, 0, 1, 0, 1, 0, 0, 1, 0, 1]


def test_conditions_are_those_of_the_process():
    assert conditions().nice == os.nice(0)
    assert conditions() == conditions()
