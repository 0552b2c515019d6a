"""Throughput: inferences a second with as many under way as the backend can overlap."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from cspbench.backends.spec import Backend, Throughput, Workload

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed

T = TypeVar("T")
#: Inferences before the clock starts, as a multiple of what is under way at a time.
WARM_ROUNDS = 2


def run_for(
    submit: Callable[[T], object],
    inputs: Sequence[T],
    seconds: float,
    *,
    in_flight: int,
    method: str,
    finish: Callable[[], object] = lambda: None,
) -> Throughput:
    """Submit inferences for about ``seconds`` and wait for the last; those before do not count.

    Args:
        submit: begins one inference; blocks while ``in_flight`` are under way.
        inputs: taken in turn.
        seconds: how long to go on submitting.
        in_flight: how many may be under way.
        method: how they overlap, in a phrase.
        finish: returns when nothing is under way any more.
    """
    for i in range(WARM_ROUNDS * in_flight):
        submit(inputs[i % len(inputs)])
    finish()
    count = 0
    start = time.perf_counter_ns()
    end = start + int(seconds * 1e9)
    while count < in_flight or time.perf_counter_ns() < end:
        submit(inputs[count % len(inputs)])
        count += 1
    finish()
    return Throughput(count, time.perf_counter_ns() - start, in_flight, method)


def back_to_back(backend: Backend, work: Workload) -> Throughput:
    """Run one inference after the other, each with its own input, without overlap."""
    session = backend.load(work.artifact, work.options, work.threads)

    def one(feed: Feed) -> None:
        session.set_input(feed)
        session.run()

    throughput = run_for(one, work.inputs, work.seconds, in_flight=1, method="back to back")
    session.close()
    return throughput
