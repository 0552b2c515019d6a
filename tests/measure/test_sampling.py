"""Warm-up, with a clock that only moves when the test says so; when samples are enough; drift."""

import itertools
import random

import pytest

from cspbench.measure.sampling import (
    AGREEMENTS,
    PRECISE_SAMPLES,
    Enough,
    drift_of,
    timed,
    warm_up,
)
from cspbench.measure.statistics import P99_MIN_SAMPLES, batch_means_half_width
from cspbench.store.records import FEW_LAUNCHES

MS = 1_000_000  # nanoseconds


class Machine:
    """Clock, inference and feed in one: an inference takes the next scripted latency.

    Args:
        latencies_ms: of the inferences, in order; the last is repeated for ever.
        feed_ms: what putting an input in place takes.
    """

    def __init__(self, latencies_ms, feed_ms=0.0):
        *first, last = latencies_ms
        self._latencies = itertools.chain(first, itertools.repeat(last))
        self._feed = feed_ms
        self.time_ns = 0
        self.events = []

    def now_ns(self):
        return self.time_ns

    def infer(self):
        self.events.append("infer")
        self.time_ns += int(next(self._latencies) * MS)

    def feed(self, i):
        self.events.append(i)
        self.time_ns += int(self._feed * MS)

    def warm_up(self, max_seconds):
        return warm_up(self.infer, self.feed, self, max_seconds)

    @property
    def inferences(self):
        return self.events.count("infer")


def test_feeding_is_not_timed():
    machine = Machine([7.0], feed_ms=1000.0)
    assert timed(machine.infer, machine.feed, machine, 3) == 7 * MS
    assert machine.events == [3, "infer"]  # the input is in place before the clock starts


def test_every_inference_gets_an_input_of_its_own_first():
    machine = Machine([10.0], feed_ms=5.0)
    warm = machine.warm_up(max_seconds=0.1)
    assert set(warm.window_medians_ns) == {10 * MS}
    # Feeding counts against the bound: windows are five turns of 15 ms, the second ends late.
    assert machine.events == [x for i in range(10) for x in (i, "infer")]


# Warm-up ----------------------------------------------------------------------------------------


def test_a_settled_machine_is_steady_after_the_agreements():
    # Windows last at least 50 ms: five inferences of 10 ms. Two agreements need three windows.
    warm = Machine([10.0]).warm_up(max_seconds=10.0)
    assert warm.steady
    assert warm.window_medians_ns == [10 * MS] * (AGREEMENTS + 1)
    assert warm.count == 15


def test_a_slow_start_is_waited_for():
    # One window of 100, 60, 30 ms (190 ms), then 10 ms: its windows 10, 10, 10 agree; the step
    # from the first window (median 60) to the second does not.
    warm = Machine([100.0, 60.0, 30.0, 10.0]).warm_up(max_seconds=10.0)
    assert warm.steady
    assert warm.window_medians_ns == [60 * MS, 10 * MS, 10 * MS, 10 * MS]


def test_agreements_must_follow_one_another():
    # Windows of three 20 ms inferences: 20 20 | 30 | 20 20 20: the single agreement does not count.
    script = [20.0] * 6 + [30.0] * 3 + [20.0] * 9
    warm = Machine(script).warm_up(max_seconds=10.0)
    assert [m // MS for m in warm.window_medians_ns] == [20, 20, 30, 20, 20, 20]
    assert warm.steady


def test_drift_within_3_percent_agrees_and_more_does_not():
    slow = [20.0] * 3 + [20.5] * 3 + [21.0] * 3  # +2.5 %, +2.4 %
    assert Machine(slow).warm_up(max_seconds=0.2).steady
    fast = [20.0] * 3 + [20.7] * 3 + [21.4] * 3  # +3.5 %, +3.4 %
    assert not Machine(fast).warm_up(max_seconds=0.18).steady


def test_a_machine_that_never_settles_is_bounded_and_said_so():
    machine = Machine(itertools.chain.from_iterable([10.0 * 1.1**k] * 5 for k in range(60)))
    warm = machine.warm_up(max_seconds=1.0)
    assert not warm.steady
    assert machine.time_ns >= 1000 * MS
    # A window is not cut short: the overrun is less than one window (its three last inferences).
    assert machine.time_ns < 1000 * MS + 3 * 10 * 1.1**20 * MS


def test_a_slow_model_needs_three_inferences_a_window():
    machine = Machine([1000.0])
    warm = machine.warm_up(max_seconds=5.0)
    # 3 s, 6 s: the bound is over after the second window, before a second agreement.
    assert warm.count == 6
    assert not warm.steady


def test_no_time_for_a_warm_up_means_none():
    warm = Machine([1.0]).warm_up(max_seconds=0.0)
    assert (warm.count, warm.window_medians_ns, warm.steady) == (0, [], False)


# Enough samples ---------------------------------------------------------------------------------


def samples_until_enough(latencies_ms, target_ci, min_seconds=0.0, burst=1):
    """The samples of a launch up to where they are enough; all of them if they never are."""
    enough, taken = Enough(target_ci, min_seconds), []
    latencies = iter(latencies_ms)
    while of_burst := [int(ms * MS) for ms in itertools.islice(latencies, burst)]:
        taken += of_burst
        if enough.add(of_burst):
            break
    assert enough.reached or not next(latencies, None)
    return taken


def test_a_quiet_machine_is_precise_at_the_first_look():
    taken = samples_until_enough([10.0] * 1000, target_ci=0.02)
    assert taken == [10 * MS] * PRECISE_SAMPLES
    # Three launches have enough for a 99th percentile.
    assert FEW_LAUNCHES * PRECISE_SAMPLES >= P99_MIN_SAMPLES


def test_samples_come_in_bursts():
    taken = samples_until_enough([10.0] * 1000, target_ci=0.02, burst=7)
    assert len(taken) == 105  # the first multiple of 7 from 100 on


@pytest.mark.parametrize("latency_ms", [0.4, 1.0, 2.5])
def test_a_quick_network_is_timed_for_as_long_as_sensors_and_clocks_need(latency_ms):
    """What a graphics card takes, with its scatter of 4 %."""
    generator = random.Random(0)
    latencies = [latency_ms * generator.gauss(1, 0.04) for _ in range(10_000)]
    taken = samples_until_enough(latencies, target_ci=0.02, min_seconds=0.5)
    assert 0.5 <= sum(taken) / 1e9 <= 0.5 * 1.26  # looks are a quarter apart
    # Without a least duration it would be a fraction of that.
    assert len(samples_until_enough([latency_ms] * 9999, 0.02)) == PRECISE_SAMPLES


def test_a_noisy_machine_is_sampled_until_it_is_precise_enough():
    # Blocks of 8 inferences at 8 and at 12 ms: small batches see the blocks, large ones average.
    noisy = itertools.chain.from_iterable([8.0 if k % 2 else 12.0] * 8 for k in range(500))
    taken = samples_until_enough(noisy, target_ci=0.02)
    assert PRECISE_SAMPLES < len(taken) < 4000
    assert batch_means_half_width(taken) <= 0.02


def test_the_interval_is_looked_at_when_the_samples_have_grown_by_a_quarter():
    # Looks at 100, 125, 156, 195, ...: 105 noisy samples spoil the looks up to the one at which
    # their batches weigh little enough.
    script = [5.0, 15.0, 5.0] * 35 + [10.0] * 20_000
    taken = samples_until_enough(script, target_ci=0.02)
    looks = [PRECISE_SAMPLES]
    while looks[-1] < 10_000:
        looks.append(looks[-1] * 5 // 4)
    assert len(taken) in looks[1:]


def test_what_scatters_too_much_is_never_enough():
    generator = random.Random(1)
    taken = samples_until_enough([generator.choice((1.0, 100.0)) for _ in range(1000)], 0.0001)
    assert len(taken) == 1000


# Drift inside a launch --------------------------------------------------------------------------


def test_a_steady_launch_has_no_drift():
    generator = random.Random(2)
    drift = drift_of([int(10 * MS * (1 + generator.gauss(0, 0.02))) for _ in range(400)])
    assert not drift.slow
    assert abs(drift.relative) < 0.02
    assert drift_of([MS] * 39) is None  # fewer than two a block


def test_a_slow_drift_is_seen_under_the_noise():
    generator = random.Random(3)
    warming = [int(10 * MS * (1 + 0.10 * i / 400 + generator.gauss(0, 0.02))) for i in range(400)]
    drift = drift_of(warming)
    assert drift.slow
    assert drift.relative == pytest.approx(0.095, abs=0.02)  # 10 % over 400, blocks lose half each
    # As steep downwards: clocks that rise.
    assert drift_of(warming[::-1]).slow
    assert drift_of(warming[::-1]).relative < 0


def test_a_sure_but_small_drift_is_no_slow_drift():
    drift = drift_of([10 * MS + i * 500 for i in range(400)])  # 0.2 ms of 10 ms: 2 %
    assert drift.z > 5
    assert not drift.slow


def test_one_burst_of_disturbance_is_no_drift():
    latencies = [10 * MS] * 400
    latencies[350:390] = [30 * MS] * 40
    assert not drift_of(latencies).slow
