"""What others took during a launch, from /proc/stat by hand."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.machine.sensors.proc import (
    CpuTimes,
    Interference,
    Proc,
    between,
    parse_stat,
    parse_switches,
    read_cpu_times,
)

# cpu  user nice system idle iowait irq softirq steal guest guest_nice   (proc(5), ticks)
STAT = """\
cpu  1000 200 300 9999 50 10 40 250 700 0
cpu0 500 100 150 5000 25 5 20 125 350 0
intr 12345
ctxt 987654
btime 1700000000
"""


def test_busy_and_steal_by_hand():
    # Busy: 1000 + 200 + 300 + 10 + 40 = 1550 ticks; idle and waiting for disks are not busy, and
    # guest time is part of user already. At 100 ticks a second: 15.5 s busy, 2.5 s steal.
    assert parse_stat(STAT, 100) == (15.5, 2.5)
    assert parse_switches(STAT) == 987654
    assert parse_switches("cpu 1 2 3\n") is None


def test_an_old_kernel_without_steal_has_none():
    assert parse_stat("cpu 100 0 0 0 0 0 0\n", 100) == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e f g\n"])
def test_what_is_no_stat_file_is_an_error_that_reading_turns_into_none(text, tmp_path, monkeypatch):
    with pytest.raises((ValueError, IndexError)):
        parse_stat(text, 100)
    (tmp_path / "stat").write_text(text)
    monkeypatch.setattr("cspbench.machine.sensors.proc._PROC_STAT", tmp_path / "stat")
    assert read_cpu_times() is None


def test_no_proc_no_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("cspbench.machine.sensors.proc._PROC_STAT", tmp_path / "missing")
    assert read_cpu_times() is None
    assert between(None, None) is None


def times(wall, busy, steal, own, load=0.5):
    return CpuTimes(wall_s=wall, busy_s=busy, steal_s=steal, own_s=own, load_1m=load)


def test_between_two_readings_by_hand():
    # In 10 s the machine was busy for 12 s (two processors), 9 of them were ours: 3 s foreign.
    found = between(times(100, 50, 1.0, 20, 0.5), times(110, 62, 1.2, 29, 0.7))
    assert found.seconds == 10
    assert found.foreign_cpu_s == 3
    assert found.steal_s == pytest.approx(0.2)
    assert (found.load_1m_before, found.load_1m_after) == (0.5, 0.7)


_seconds = st.floats(0, 1e6)


@given(st.lists(_seconds, min_size=8, max_size=8))
def test_nothing_is_ever_negative(values):
    """Ticks are rounded and our own time is not: our part can look larger than the whole."""
    found = between(times(*values[:4]), times(*values[4:]))
    assert found.foreign_cpu_s >= 0
    assert found.steal_s >= 0


@pytest.mark.parametrize(
    ("foreign", "steal", "contended"),
    [(0.0, 0.0, False), (2.4, 0.4, False), (2.6, 0.0, True), (0.0, 0.6, True)],
)
def test_contended_means_5_percent_steal_or_25_percent_of_a_processor(foreign, steal, contended):
    assert Interference(10.0, foreign, steal, 0.0, 0.0).contended() is contended


@pytest.mark.parametrize(
    ("seconds", "foreign_ticks", "steal_ticks", "contended"),
    [
        (0.036, 1, 0, False),  # the window of 40 inferences of 0.9 ms: one tick is 28 % of it
        (0.036, 2, 0, False),
        (0.196, 0, 1, False),  # one tick of steal is 5.1 %
        (0.5, 14, 0, False),  # 28 %, of which the clock may have made 4
        (0.5, 16, 0, True),
        (0.5, 0, 3, False),
        (0.5, 0, 4, True),
        (0.036, 4, 0, True),  # more than the whole window
    ],
)
def test_what_ticks_of_the_clock_can_make_up_is_no_contention(
    seconds, foreign_ticks, steal_ticks, contended
):
    """Two readings of a real /proc/stat's form, which counts whole ticks of 10 ms."""

    def reading(ticks, steal, now):
        busy, stolen = parse_stat(f"cpu  {1000 + ticks} 0 0 90000 0 0 0 {steal} 0 0\n", 100)
        return CpuTimes(now, busy, stolen, own_s=1.0, load_1m=0.0)

    window = between(reading(0, 7, 50.0), reading(foreign_ticks, 7 + steal_ticks, 50.0 + seconds))
    assert window.contended() is contended


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_real_machine_counts_our_own_work_as_ours():
    before = read_cpu_times()
    sum(i * i for i in range(2_000_000))
    after = read_cpu_times()
    found = between(before, after)
    assert after.own_s > before.own_s
    assert after.busy_s >= before.busy_s
    assert found.seconds > 0
    assert found.involuntary_switches >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_waiting_is_a_voluntary_switch_of_ours_and_one_of_the_machine():
    before = read_cpu_times()
    for _ in range(50):
        time.sleep(0.001)
    after = read_cpu_times()
    assert between(before, after).voluntary_switches >= 50
    assert after.context_switches - before.context_switches >= 50
    assert {"cpu_busy_s", "cpu_steal_s", "context_switches"} == set(Proc().read().counters)
