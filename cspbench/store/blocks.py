"""What a stored block says of the processes that took turns in it: their bursts, by which clock.

With one thread on a processor a burst knows how long its process did not run; if both of two
processes do, they are compared by running time (elapsed less that wait), otherwise by elapsed time,
or by the device's own where both have its events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean
from typing import TypeAlias

from cspbench.core.case import Case
from cspbench.jobs.replay import ReplayResult
from cspbench.jobs.time import TimeResult
from cspbench.measure.ratios import (
    ROUNDS,
    SUCCESSIVE,
    Bursts,
    Halves,
    estimates,
    half_of,
    halves,
    log_waited,
    steady_rounds,
)
from cspbench.measure.successive import (
    MOST_ARMS,
    MOST_CELLS,
    Comparison,
    Turn,
    comparisons,
    levels,
)

#: What a ratio is of.
RUNNING, ELAPSED, DEVICE = "running time", "elapsed time", "device time"
#: What a ratio is of whose two cases never shared a block: two latencies, which is weaker.
SEPARATE = "separate launches"


@dataclass(frozen=True, eq=False)
class Arm:
    """Time of an inference in each round of a block, in ns.

    ``each`` holds, by each clock that the process knows, the inferences of each burst, or its mean
    where nothing else is known. ``began`` is when each burst began; older runs do not tell.
    """

    elapsed: list[float]
    running: list[float] | None
    each: Mapping[str, Bursts]
    throttled_ns: list[int] | None
    began: list[int] | None
    result: TimeResult | ReplayResult

    @property
    def was_throttled(self) -> bool:
        """Whether its device was throttled in a burst: then rounds are left out."""
        return any(self.throttled_ns or ())

    def turns(self, number: int, clock: str) -> list[Turn]:
        """Its bursts as those of process ``number``."""
        assert self.began is not None
        return [
            Turn(number, item, began, math.log(fmean(burst)))
            for item, (began, burst) in enumerate(zip(self.began, self.each[clock], strict=True))
        ]


#: The arms of one case in a block.
Processes: TypeAlias = Sequence[Arm]
#: Levels of the arms that know a clock.
_Levels: TypeAlias = Mapping[Arm, float] | None


@dataclass
class Block:
    """Arms of a block by case; ``again`` is the run's reference with its second arm."""

    arms: dict[str, Arm] = field(default_factory=dict)
    again: tuple[str, Arm] | None = None
    replays: list[Arm] = field(default_factory=list)
    _levels: dict[str, tuple[_Levels, _Levels, _Levels]] = field(default_factory=dict)

    @property
    def check(self) -> tuple[Processes, Processes] | None:
        """Both arms of the reference; None if one of them is missing."""
        if self.again is None or self.again[0] not in self.arms:
            return None
        return [self.arms[self.again[0]]], [self.again[1]]

    def processes(self, case: str) -> Processes:
        """The arms of a case: of the run's reference both."""
        return [self.arms[case], *([self.again[1]] if self.again and self.again[0] == case else [])]

    @property
    def of_cases(self) -> list[Arm]:
        """All arms but the replays."""
        return [*self.arms.values(), *([self.again[1]] if self.again else [])]

    def forget(self) -> None:
        """Forget levels that were fitted before an arm came."""
        self._levels.clear()

    @property
    def tells_order(self) -> bool:
        """Whether successive bursts can be compared: it is known when each began.

        Where a device was throttled, rounds are left out, so there are none.
        """
        arms = [*self.of_cases, *self.replays]
        bursts = sum(len(arm.began or ()) for arm in arms)
        fits = len(arms) <= MOST_ARMS and len(arms) * bursts <= MOST_CELLS
        return fits and all(arm.began is not None and not arm.was_throttled for arm in arms)

    @property
    def _of_two(self) -> bool:
        """Whether two alone took turns: AB, BA, ... (and no rounds of theirs are left out)."""
        arms = [*self.of_cases, *self.replays]
        turns = [arm.result.turns for arm in arms if not arm.was_throttled]
        return len(arms) == 2 and [one.arms for one in turns if one is not None] == [2, 2]

    def log(self, way: str, bases: Processes, heads: Processes, clock: str) -> float:
        """The log of head / base by an estimate of `cspbench.measure.ratios`, and by a clock.

        All blocks of a ratio go by one clock, which their arms know (`clock_of`). Successive bursts
        can be compared in a block that `tells_order`.
        """
        return of_all(lambda base, head: self._between(way, base, head, clock), bases, heads)

    def typical(self, bases: Processes, heads: Processes) -> float:
        """The log of head / base within a usual round, of elapsed time."""
        return self.log(ROUNDS, bases, heads, ELAPSED)

    def _between(self, way: str, base: Arm, head: Arm, clock: str) -> float:
        if way != SUCCESSIVE:
            return estimates(self._of_two)[way](*_bursts(base, head, clock))
        of_arm = self._successive(clock)[0]
        assert of_arm is not None, "bursts one after the other connect all that took turns"
        return of_arm[head] - of_arm[base]

    def halves(self, base: Arm, head: Arm) -> dict[str, Halves]:
        """What each way says of even and of odd rounds; nothing of a short block."""
        clock = clock_of(base, head)
        told = halves(*_bursts(base, head, clock), of_two=self._of_two)
        _, even, odd = self._successive(clock) if told else (None, None, None)
        if even is not None and odd is not None:
            told[SUCCESSIVE] = even[head] - even[base], odd[head] - odd[base]
        return told

    def _successive(self, clock: str) -> tuple[_Levels, _Levels, _Levels]:
        """Levels of the arms by a clock, over all rounds, the even and the odd ones."""
        if clock not in self._levels:
            arms = [arm for arm in (*self.of_cases, *self.replays) if clock in arm.each]
            found = comparisons(
                turn
                for number, arm in enumerate(arms if self.tells_order else [])
                for turn in arm.turns(number, clock)
            )

            of_two = self._of_two

            def of_rounds(*wanted: int | None) -> _Levels:
                kept = [each for each in found if _half(each, of_two) in wanted]
                fitted = levels(kept, len(arms))
                return None if fitted is None else dict(zip(arms, fitted, strict=True))

            self._levels[clock] = (
                of_rounds(None, 0, 1),
                of_rounds(0),
                of_rounds(1),
            )
        return self._levels[clock]


def _half(comparison: Comparison, of_two: bool) -> int | None:
    """Half of the rounds that a comparison is in (`half_of`); None between two rounds."""
    number = comparison[2]
    return None if number is None else half_of(number, of_two=of_two)


def of_all(estimate: Callable[[Arm, Arm], float], bases: Processes, heads: Processes) -> float:
    """The mean of an estimate over all pairs of a process of one case and one of the other."""
    return fmean(estimate(base, head) for base, head in product(bases, heads))


def throttled_rounds(bases: Processes, heads: Processes) -> int:
    """Rounds of a block that were left out, of the first process of each."""
    base, head = bases[0], heads[0]
    rounds = min(len(base.elapsed), len(head.elapsed))
    return rounds - len(steady_rounds(rounds, base.throttled_ns, head.throttled_ns))


def waited_more(base: Arm, head: Arm) -> float:
    """By which log the waiting of the head exceeds that of the base; both know theirs."""
    assert base.running is not None
    assert head.running is not None
    return log_waited(head.elapsed, head.running) - log_waited(base.elapsed, base.running)


def clock_of(*arms: Arm) -> str:
    """The clock by which arms are compared: running time, or a device's own, where all know it."""
    for clock in (RUNNING, DEVICE):
        if all(clock in arm.each for arm in arms):
            return clock
    return ELAPSED


def arm_of(case_id: str, result: TimeResult | ReplayResult) -> Arm:
    """The arm that a launch was, which took turns."""
    turns = result.turns
    assert turns is not None
    counts = turns.counts
    sums = [sum(burst) for burst in _parts(result.latencies_ns, counts)]
    means = [max(total, 1) / count for total, count in zip(sums, counts, strict=True)]
    each = {ELAPSED: _by_burst(result.latencies_ns, counts, means)}
    running = None
    if turns.lost_ns is not None and turns.device_ns is None and Case.parse(case_id).threads == 1:
        running = [
            max(total - lost, 1) / count
            for total, lost, count in zip(sums, turns.lost_ns, counts, strict=True)
        ]
        # Of older runs only the means of bursts are known, as of a device.
        each[RUNNING] = _by_burst(turns.running_ns, counts, running)
    if turns.device_ns is not None:
        each[DEVICE] = [
            [max(total, 1) / count] for total, count in zip(turns.device_ns, counts, strict=True)
        ]
    return Arm(means, running, each, turns.throttled_ns, turns.began_ns, result)


def _steady(base: Arm, head: Arm, of_base: Bursts, of_head: Bursts) -> tuple[Bursts, Bursts]:
    """The bursts of the rounds in which the device was not throttled."""
    if base.throttled_ns is None and head.throttled_ns is None:
        return of_base, of_head
    rounds = min(len(of_base), len(of_head))
    kept = steady_rounds(rounds, base.throttled_ns, head.throttled_ns)
    return [of_base[number] for number in kept], [of_head[number] for number in kept]


def _bursts(base: Arm, head: Arm, clock: str) -> tuple[Bursts, Bursts]:
    """Times of two arms by one clock."""
    return _steady(base, head, base.each[clock], head.each[clock])


def _parts(each: Sequence[int], counts: Sequence[int]) -> Iterator[Sequence[int]]:
    """The inferences of each burst."""
    start = 0
    for count in counts:
        yield each[start : start + count]
        start += count


def _by_burst(
    each: Sequence[int] | None, counts: Sequence[int], means: Sequence[float]
) -> list[list[float]]:
    """The inferences of each burst, or its mean where nothing else is known."""
    if not each:
        return [[mean] for mean in means]
    return [[max(ns, 1) for ns in burst] for burst in _parts(each, counts)]
