"""The device's own time, on an invented device whose kernels and gaps are known.

The host takes some time to submit a kernel; the device runs kernels one after the other, each as
soon as it is submitted and those before are done. Events are recorded in between, as CUDA's are.
"""

import pytest

from cspbench.backends.common.device_clock import FEWEST, MOST_CYCLES, DeviceClock

US = 1000  # nanoseconds
GHZ = 2  # cycles a nanosecond


class Card:
    """A stream, its host's clock and its kernels, in ns.

    Args:
        submit_us: what the host takes to submit a kernel.
        queue: how many kernels may wait; submitting one more waits for the first of them.
        hiccups: submissions (by number) in which the host loses its processor for 1 ms.
    """

    def __init__(self, submit_us, queue=1000, hiccups=()):
        self.submit_ns, self.queue, self.hiccups = round(submit_us * US), queue, set(hiccups)
        self.host_ns, self.device_ns, self.submitted = 0, 0, 0
        self.pending = []  # ends of kernels that were submitted

    def now(self):
        return self.host_ns

    def kernel(self, ns):
        self.host_ns += self.submit_ns
        if self.submitted in self.hiccups:
            self.host_ns += 1_000_000
        self.submitted += 1
        self.pending = [end for end in self.pending if end > self.host_ns]
        if len(self.pending) >= self.queue:
            self.host_ns = self.pending.pop(0)
        self.device_ns = max(self.device_ns, self.host_ns) + ns
        self.pending.append(self.device_ns)

    def stall(self, cycles):
        self.kernel(cycles // GHZ)

    def synchronise(self):
        self.host_ns = max(self.host_ns, self.device_ns) + 5 * US

    def event(self):
        return Event(self)


class Event:
    def __init__(self, card):
        self.card, self.at_ns = card, None

    def record(self):
        self.card.host_ns += US // 2
        self.at_ns = max(self.card.device_ns, self.card.host_ns)

    def query(self):
        return self.at_ns <= self.card.host_ns

    def elapsed_time(self, end):
        return (end.at_ns - self.at_ns) / 1e6


def network(card, kernels, kernel_us):
    def submit():
        for _ in range(kernels):
            card.kernel(kernel_us * US)

    return submit


def sampled(card, submit, count=20, seconds=1.0):
    return DeviceClock(card, card.now).sample(lambda _number: None, submit, count, seconds)


def test_gaps_of_submitting_are_not_the_devices_time():
    """200 kernels of 4 us, which the host submits every 10 us: 800 us of work in 2 ms."""
    card = Card(submit_us=10)
    samples = sampled(card, network(card, 200, 4))
    assert samples.held
    assert set(samples.device_ns) == {800 * US}
    assert all(1900 * US < ns < 2100 * US for ns in samples.span_ns)
    assert all(1900 * US < ns < 2100 * US for ns in samples.enqueue_ns)


def test_large_kernels_take_as_long_either_way():
    """20 kernels of 400 us: the host is far ahead of the device."""
    card = Card(submit_us=10)
    samples = sampled(card, network(card, 20, 400))
    assert set(samples.device_ns) == {8000 * US}
    assert all(ns == pytest.approx(8000 * US, rel=0.01) for ns in samples.span_ns)


def test_a_host_that_lost_its_processor_is_noticed_and_the_inference_repeated():
    """In the 5th held inference (and before each is a plain one) the host stops for 1 ms."""
    inference = 200
    card = Card(submit_us=1, hiccups={9 * inference + 5 + 100})
    samples = sampled(card, network(card, inference, 4))
    assert samples.held
    assert set(samples.device_ns) == {800 * US}


def test_hosts_that_stop_often_do_not_make_the_stall_grow():
    """At each 7th inference, for 1 ms; the longest stall is for the hiccup itself: 4 x 1.2 ms."""
    inference = 200
    card = Card(submit_us=1, hiccups={7 * n * inference + 100 for n in range(1, 200)})
    stalls, stall = [], card.stall
    card.stall = lambda cycles: (stalls.append(cycles), stall(cycles))[1]
    samples = sampled(card, network(card, inference, 4), count=300)
    assert samples.held
    assert set(samples.device_ns) == {800 * US}
    assert max(stalls) <= 4 * 1_300_000
    assert sorted(stalls)[len(stalls) // 2] < 4 * 300_000


def test_more_kernels_than_may_wait_cannot_be_held_back():
    card = Card(submit_us=10, queue=100)
    samples = sampled(card, network(card, 200, 4), count=5)
    assert not samples.held
    assert samples.device_ns == samples.span_ns  # of one kind, and said so
    assert len(samples.device_ns) == 5
    # It is tried up to a bound, three times: 0.1 s each, and 0.1 s for all that came before.
    assert card.host_ns < 4.5 * MOST_CYCLES / GHZ


def test_it_ends_when_the_time_is_over_but_not_without_a_few():
    card = Card(submit_us=10)
    assert len(sampled(card, network(card, 200, 4), count=1000, seconds=0.0).device_ns) == FEWEST
    assert len(sampled(card, network(card, 200, 4), count=1000, seconds=0.1).device_ns) < 30


def test_the_input_is_put_in_place_before_either_measurement():
    card, seen = Card(submit_us=10), []
    clock = DeviceClock(card, card.now)
    clock.sample(seen.append, network(card, 5, 4), 3, 1.0)
    assert seen == [0, 0, 1, 1, 2, 2]
