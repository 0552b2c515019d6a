"""Launches on the CPU have the threads that the case says: by the backend, and by the system."""

import numpy as np
import pytest

from cspbench.machine.sensors.proc import Interference, between, read_cpu_times
from cspbench.measure.threads import wrong_threads


def window(own_cpu_s, seconds=2.0):
    return Interference(seconds, 0.0, 0.0, 1.0, 1.0, own_cpu_s)


@pytest.mark.parametrize(
    ("threads", "reported", "own_cpu_s", "problem"),
    [
        (1, 1, 2.0, None),
        (1, None, 2.5, None),  # 1.25 processors: Python beside the backend's thread
        (2, 2, 4.0, None),
        (4, 4, 2.0, None),  # a network that does not scale
        (1, 2, 2.0, "1 threads were asked for, the backend has 2"),
        # (4 - 2 * 0.01) / 2 = 1.99 processors
        (1, 1, 4.0, "1 threads were asked for, 2.0 processors were used"),
        (2, 2, 6.0, "2 threads were asked for, 3.0 processors were used"),
    ],
)
def test_what_is_wrong(threads, reported, own_cpu_s, problem):
    assert wrong_threads(threads, reported, window(own_cpu_s)) == problem


def test_without_a_processor_time_the_reported_threads_count():
    assert wrong_threads(1, 1, None) is None


def test_own_processor_time_is_that_of_this_process():
    before = read_cpu_times()
    if before is None:
        pytest.skip("no /proc/stat")
    total = 0.0
    while (now := read_cpu_times()).own_s - before.own_s < 0.2:
        total += float(np.ones(1000).sum())
    seen = between(before, now)
    assert 0.2 <= seen.own_cpu_s <= seen.seconds + 0.05
