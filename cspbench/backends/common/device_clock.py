"""The device's own time of an inference, without the gaps in which it waits for the host.

An event that is recorded on an idle stream happens at once. So the time from an event before the
first kernel to one after the last holds every gap in which the device waited for the host to submit
the next kernel: at batch 1 it is about the time of submitting. Therefore a kernel that only spins
holds the stream back until everything is submitted, as nvbench's blocking kernel does. Whether it
held is seen: the first event must not have happened when the last one was submitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

#: Cycles of the spinning kernel a nanosecond of submitting: twice a clock of 2 GHz.
CYCLES_PER_NS = 4
#: The longest that the stream is held back: some 0.1 s. CUDA's queue of kernels is finite, so a
#: network with more kernels than it holds cannot be submitted while the stream is held.
MOST_CYCLES = 200_000_000
#: Times that it is tried to hold a stream back for so long before that is given up.
MOST_TRIES = 3
#: Inferences that are timed at least.
FEWEST = 3


class Event(Protocol):
    """A CUDA event with timing."""

    def record(self) -> object:
        """Record it after what was submitted."""

    def query(self) -> bool:
        """Whether it happened."""

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to another; both happened."""


class Stream(Protocol):
    """What the clock needs of a device."""

    def event(self) -> Event:
        """Make an event."""

    def stall(self, cycles: int) -> None:
        """Submit a kernel that spins so long."""

    def synchronise(self) -> None:
        """Wait until everything that was submitted is done."""


@dataclass
class DeviceSamples:
    """Times of inferences in ns.

    ``device_ns``: all was submitted before the first kernel began. ``span_ns``: as the host
    submits, so gaps are in it. ``enqueue_ns``: the host's time of submitting. Without ``held`` the
    stream could not be held back, and ``device_ns`` is ``span_ns``.
    """

    device_ns: list[int] = field(default_factory=list)
    span_ns: list[int] = field(default_factory=list)
    enqueue_ns: list[int] = field(default_factory=list)
    held: bool = True


class DeviceClock:
    """Times inferences by events.

    Args:
        stream: the device.
        now: the host's clock in ns.
    """

    def __init__(self, stream: Stream, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self._stream, self._now = stream, now
        self._begin, self._end = stream.event(), stream.event()
        self._holds = True

    def sample(
        self,
        prepare: Callable[[int], object],
        submit: Callable[[], object],
        count: int,
        seconds: float,
    ) -> DeviceSamples:
        """Time inferences, each once as the host submits it and once held back.

        Args:
            prepare: puts input number i in place; not timed.
            submit: submits one inference and does not wait for it.
            count: how many inferences at most.
            seconds: after so long there are no more, once FEWEST were timed.
        """
        samples = DeviceSamples()
        end = self._now() + int(seconds * 1e9)
        for number in range(count):
            if number >= FEWEST and self._now() >= end:
                break
            prepare(number)
            span, enqueue = self._as_submitted(submit)
            samples.span_ns.append(span)
            samples.enqueue_ns.append(enqueue)
            if self._holds:
                prepare(number)
                held = self._held_back(submit, enqueue)
                if held is None:
                    self._holds = False
                else:
                    samples.device_ns.append(held)
        if not self._holds:  # all by one clock
            samples.device_ns, samples.held = list(samples.span_ns), False
        return samples

    def _as_submitted(self, submit: Callable[[], object]) -> tuple[int, int]:
        self._stream.synchronise()
        start = self._now()
        self._begin.record()
        submit()
        self._end.record()
        enqueue = self._now() - start
        self._stream.synchronise()
        return self._elapsed_ns(), enqueue

    def _held_back(self, submit: Callable[[], object], enqueue_ns: int) -> int | None:
        """Time of an inference whose kernels all waited; None where the stream cannot be held.

        Each inference begins with what submitting took just before: a host that stopped for a
        moment, as hosts do, costs later inferences nothing.
        """
        cycles, tries = min(CYCLES_PER_NS * enqueue_ns, MOST_CYCLES), 0
        while True:
            self._stream.synchronise()
            self._stream.stall(cycles)
            self._begin.record()
            submit()
            self._end.record()
            held = not self._begin.query()
            self._stream.synchronise()
            if held:
                return self._elapsed_ns()
            tries += cycles >= MOST_CYCLES
            if tries >= MOST_TRIES:
                return None
            cycles = min(2 * cycles, MOST_CYCLES)

    def _elapsed_ns(self) -> int:
        return round(self._begin.elapsed_time(self._end) * 1e6)
