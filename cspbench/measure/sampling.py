"""Around the inferences of a launch: warm up until they are steady, judge when they are enough.

Nothing here depends on a backend: ``infer`` runs one inference, ``feed`` puts the next input in
place and is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

from cspbench.core.bounds import Count, Number
from cspbench.measure.clock import Clock
from cspbench.measure.statistics import Trend, batch_means_half_width, trend

#: A warm-up window lasts at least this long and has at least this many inferences.
WINDOW_NS = 50_000_000
WINDOW_MIN = 3
#: Successive window medians that lie within this share of one another count as agreeing ...
AGREE_WITHIN = 0.03
#: ... and this many agreements in a row mean steady.
AGREEMENTS = 2
#: Fewest samples of a launch, even beyond the bound in time.
MIN_SAMPLES = 5
#: Fewest samples of a launch that is precise enough: FEW_LAUNCHES of them have a 99th percentile.
PRECISE_SAMPLES = 100
#: Drift is tested in the medians of so many consecutive blocks of at least so many samples ...
DRIFT_BLOCKS, DRIFT_BLOCK_MIN = 20, 2
#: ... and is slow drift from this share of the median on ...
DRIFT_SHARE = 0.03
#: ... if chance alone makes such a trend in fewer than one of a hundred launches (|z| > 2.576).
DRIFT_Z = 2.576


@dataclass
class WarmUp:
    """The course of the warm-up, which shows effects of clocks and caches."""

    count: Count
    steady: bool
    window_medians_ns: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Drift:
    """Trend of the latency over one launch: its whole change as a share, and its z.

    ``slow`` means that both exceed their bounds: the launch did not measure one steady state.
    """

    relative: Number
    z: Number
    slow: bool


def drift_of(latencies_ns: list[int]) -> Drift | None:
    """Test the block medians of a launch for a slow drift; None with too few samples."""
    size = len(latencies_ns) // DRIFT_BLOCKS
    if size < DRIFT_BLOCK_MIN:
        return None
    blocks = [latencies_ns[i * size : (i + 1) * size] for i in range(DRIFT_BLOCKS)]
    change: Trend = trend([median(block) for block in blocks])
    slow = abs(change.relative) > DRIFT_SHARE and abs(change.z) > DRIFT_Z
    return Drift(change.relative, change.z, slow)


def timed(infer: Callable[[], None], feed: Callable[[int], None], clock: Clock, i: int) -> int:
    """Latency of inference number ``i`` in ns; its input is in place before the clock starts."""
    feed(i)
    start = clock.now_ns()
    infer()
    return clock.now_ns() - start


def warm_up(
    infer: Callable[[], None], feed: Callable[[int], None], clock: Clock, max_seconds: float
) -> WarmUp:
    """Run windows of inferences until their medians agree, or until ``max_seconds`` are over."""
    result = WarmUp(count=0, steady=False)
    end = clock.now_ns() + int(max_seconds * 1e9)
    agreements = 0
    while not result.steady and clock.now_ns() < end:
        window: list[int] = []
        while len(window) < WINDOW_MIN or sum(window) < WINDOW_NS:
            window.append(timed(infer, feed, clock, result.count))
            result.count += 1
        result.window_medians_ns.append(int(median(window)))
        agreements = agreements + 1 if _agree(result.window_medians_ns) else 0
        result.steady = agreements >= AGREEMENTS
    return result


def _agree(medians: list[int]) -> bool:
    if len(medians) < 2:
        return False
    previous, last = medians[-2:]
    return abs(last - previous) <= AGREE_WITHIN * max(previous, 1)


class Enough:
    """Whether the samples of a launch are enough: their batch-means interval is within a share.

    They are not before there are PRECISE_SAMPLES whose sum is ``min_seconds``: inferences of 0.5 ms
    would be done within a tick of the sensors' clocks. The interval is computed whenever the number
    of samples has grown by a quarter, so that its cost is negligible.
    """

    def __init__(self, target_ci: float, min_seconds: float = 0.0) -> None:
        self._target_ci = target_ci
        self._min_ns = min_seconds * 1e9
        self._latencies: list[int] = []
        self._sum_ns = 0
        self._next = PRECISE_SAMPLES
        self.reached = False

    def add(self, latencies_ns: Iterable[int]) -> bool:
        """Take in more samples; tell whether all of them are enough now."""
        samples, before = self._latencies, len(self._latencies)
        samples += latencies_ns
        self._sum_ns += sum(samples[before:])
        if not self.reached and len(samples) >= self._next and self._sum_ns >= self._min_ns:
            self._next = len(samples) * 5 // 4
            half_width = batch_means_half_width(samples)
            self.reached = half_width is not None and half_width <= self._target_ci
        return self.reached
