"""The gate's blocks: base and head live together and take bursts in turn.

Rounds of some 0.8 seconds are a block. They alternate (ABBA), so that each pair of neighbours is
one burst of each side. With one thread both sides keep to one processor, and after two blocks, one
for each side that starts first, to the next (`starting_order`). The processes of several cases live
together where the machine can load them side by side: one case takes its turns after the other. If
the two models of a case do not fit into memory together, its schedule is ``pairs``: whole processes
in ABBA order, one alive at a time. Its pairs are seconds apart and therefore less precise.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, repeat
from statistics import fmean
from typing import Literal

from cspbench.core.statuses import Status
from cspbench.jobs.layers import LayerTimes
from cspbench.machine.facts import usable_cores
from cspbench.machine.processors import processor_of
from cspbench.measure.ratios import log_waited, steady_rounds, typical_estimate
from cspbench.runner.arms import Arm, ArmLostError, Burst, Loaded, if_all_told
from cspbench.runner.block_request import available_bytes
from cspbench.runner.interleaved import (
    Turns,
    burst_count,
    load_arms,
    run_block,
    take_turns,
    unlike,
)

#: Most and fewest rounds of a block, and the time that its bursts take if neither bounds them. It
#: is short, because blocks scatter by what a process draws once, which no more bursts average.
PAIRS, FEWEST_PAIRS, BLOCK_NS = 80, 20, 0.8e9
#: Of the memory that was free this share stays free where several cases live together.
SPARE_SHARE = 0.5

Schedule = Literal["duet", "pairs"]
Side = Literal["base", "head"]
SIDES: tuple[Side, Side] = ("base", "head")


@dataclass(frozen=True)
class Block:
    """One pair of processes: their bursts, item i of the base beside item i of the head.

    ``first`` is the side that was started first.
    """

    number: int
    first: Side
    schedule: Schedule
    base: tuple[Burst, ...]
    head: tuple[Burst, ...]
    seconds: float

    @cached_property
    def steady(self) -> list[int]:
        """Numbers of the pairs that count: those of a throttled device are left out."""
        base, head = map(_throttled_ns, (self.base, self.head))
        return steady_rounds(min(len(self.base), len(self.head)), base, head)

    @cached_property
    def kinds(self) -> list[list[int]]:
        """Places in `steady` of the pairs that are about one ratio, a list for each kind of pair.

        The second burst of a pair begins with the caches of the other side, so pairs that the base
        begins are of another kind than those that the head begins. Bursts with one without extra
        work beside them change places with it after every two: then there are four kinds. By the
        schedule ``pairs`` a pair of processes, one after the other, makes each half.
        """
        if self.schedule == "pairs":
            half = min(len(self.base), len(self.head)) // 2
            first = sum(number < half for number in self.steady)
            return [list(range(first)), list(range(first, len(self.steady)))]
        results = [burst.result for burst in self.head]
        beside = any(one is not None and one.without_extra is not None for one in results)
        kinds: list[list[int]] = [[] for _ in range(4 if beside else 2)]
        for place, number in enumerate(self.steady):
            kinds[number % len(kinds)].append(place)
        return kinds

    def estimate(self, base_ns: Sequence[float], head_ns: Sequence[float]) -> float:
        """log(head / base): the mean over the kinds of pairs of the median over the pairs of each.

        A median over pairs of all kinds, some of which are above the ratio of the sides and some
        below it, is anywhere between.

        Args:
            base_ns: time of an inference in each pair of `steady`.
            head_ns: what to compare with it, pair by pair.

        Raises:
            ValueError: there are no pairs.
        """
        return fmean(
            typical_estimate([base_ns[place] for place in kind], [head_ns[place] for place in kind])
            for kind in self.kinds
            if kind
        )

    @property
    def by_device(self) -> bool:
        """Whether a device's own events timed all bursts of both sides."""
        results = [burst.result for burst in (*self.base, *self.head)]
        return all(one is not None and one.by_device for one in results)

    @property
    def throttled_pairs(self) -> int:
        """How many pairs of bursts do not count."""
        return min(len(self.base), len(self.head)) - len(self.steady)

    def inference_ns(self, side: Side) -> list[float]:
        """Mean time of an inference in each burst of a side, by one clock for both sides."""
        if not self.by_device:  # one side's device may have events all the same
            return self.host_ns(side)
        return [getattr(self, side)[number].inference_ns for number in self.steady]

    def host_ns(self, side: Side) -> list[float]:
        """Mean time of an inference in each burst by the host's clock."""
        return [getattr(self, side)[number].host_ns for number in self.steady]

    def running_ns(self, side: Side) -> list[float]:
        """The same without the time in which the process was ready but did not run.

        It is the same time where a burst of either side does not know that.
        """
        if not self.knows_running:
            return self.inference_ns(side)
        return [getattr(self, side)[number].running_ns for number in self.steady]

    def waited(self, side: Side) -> float:
        """log(elapsed / running time) of all bursts of a side together."""
        return log_waited(self.inference_ns(side), self.running_ns(side))

    @property
    def knows_running(self) -> bool:
        """Whether every burst knows how long its process was ready but did not run."""
        return all(burst.lost_ns is not None for burst in (*self.base, *self.head))


def _throttled_ns(bursts: Sequence[Burst]) -> list[int] | None:
    """For how long a side's device was throttled, burst by burst; None where it does not tell."""
    return if_all_told([burst.result.throttled_ns if burst.result else None for burst in bursts])


#: Makes the arm of a side; called anew for each process.
MakeArm = Callable[[Side], Arm]
#: Arms by side.
Arms = Mapping[str, Arm]
#: Bursts of one block by side.
Bursts = dict[str, list[Burst]]


class ElsewhereArms(ABC):
    """Makes arms of another machine. They take their turns there, a block at a time."""

    @abstractmethod
    def __call__(self, side: Side) -> Arm:
        """An arm that can be loaded, to see whether the side runs at all."""

    @abstractmethod
    def block(
        self, schedule: Schedule, order: tuple[Side, Side], pairs: int, number: int
    ) -> Bursts:
        """What `measure_block` returns and raises, measured there."""

    @abstractmethod
    def profiled(self, number: int) -> Mapping[Side, LayerTimes]:
        """What `cspbench.gating.why.profiled_block` returns and raises, measured there."""


def starting_order(number: int) -> tuple[Side, Side]:
    """The sides of block ``number``, the one that starts first before the other.

    The process that loads first is slower in some hours, by up to 3 %, and more so in the second
    block on a processor. So the sides change places as the Thue-Morse sequence does: of every four
    blocks each side begins one first and one second block of a processor, of every eight on each of
    two processors.
    """
    return SIDES if number.bit_count() % 2 == 0 else SIDES[::-1]


def measure_blocks(
    makes: dict[str, MakeArm], pairs: int = PAIRS, together: int | None = None
) -> Iterator[tuple[str, Block | ArmLostError]]:
    """Measure block after block of each case, as long as the caller leaves it in ``makes``.

    Args:
        makes: by the name of a case what makes its arms. This function starts and ends the
            processes. A case whose arm is lost is taken out.
        pairs: pairs of bursts in a block.
        together: most cases that live together; as many as can load side by side by default.

    Yields:
        The name of a case, and its next block or why it cannot go on: an arm failed, ended, hung,
        or runs under other conditions than its partner.
    """
    together = together or max(1, usable_cores() // 2)
    schedules: dict[str, Schedule] = dict.fromkeys(makes, "duet")
    number = 0
    fitted: list[set[str]] = []  # cases that lived together
    alone: set[str] = set()  # cases for which there was no room beside others
    while makes:
        order = starting_order(number)
        alone |= {name for name, schedule in schedules.items() if schedule == "pairs"}
        for group in _groups(makes, alone, together):
            members = {name: makes[name] for name in group}
            started = time.monotonic()
            found: dict[str, Bursts | ArmLostError] = {}
            if len(group) > 1:
                at_once = any(cases.issuperset(group) for cases in fitted)
                found = _group(members, order, pairs, number, at_once=at_once)
                alone.update(set(group) - set(found))
                fitted.append(set(found))
            each = (time.monotonic() - started) / len(group)
            for name, make in members.items():
                started = time.monotonic()
                bursts = found.get(name)
                if bursts is None:
                    bursts, schedules[name] = _alone(make, schedules[name], order, pairs, number)
                if isinstance(bursts, ArmLostError):
                    del makes[name]
                    yield name, bursts
                    continue
                seconds = each + time.monotonic() - started
                yield name, Block(
                    number, order[0], schedules[name],
                    tuple(bursts["base"]), tuple(bursts["head"]), seconds,
                )  # fmt: skip
        number += 1


def _groups(
    makes: Mapping[str, MakeArm], alone: Collection[str], together: int
) -> Iterator[Sequence[str]]:
    """Cases that live together; those of another machine are alone, too."""
    single = [
        name for name, make in makes.items() if name in alone or isinstance(make, ElsewhereArms)
    ]
    others = [name for name in makes if name not in single]
    for start in range(0, len(others), together):
        yield others[start : start + together]
    yield from ([name] for name in single)


def _alone(
    make: MakeArm, schedule: Schedule, order: tuple[Side, Side], pairs: int, number: int
) -> tuple[Bursts | ArmLostError, Schedule]:
    """One block of a case, and the schedule that the memory had room for."""
    try:
        return measure_block(make, schedule, order, pairs, number), schedule
    except ArmLostError as lost:
        if lost.outcome.status is not Status.OOM or schedule == "pairs":
            return lost, schedule
    return _alone(make, "pairs", order, pairs, number)


def _group(
    makes: Mapping[str, MakeArm],
    order: tuple[Side, Side],
    pairs: int,
    number: int,
    *,
    at_once: bool,
) -> dict[str, Bursts | ArmLostError]:
    """One block of several cases, whose processes live together.

    Args:
        makes: by the name of a case what makes its arms.
        order: the side that starts first comes first.
        pairs: most pairs of bursts.
        number: of the block.
        at_once: all load side by side, because they had room before. Otherwise a case begins to
            load when the one before has, and if enough memory is still free.

    Returns:
        The bursts of each case, or its lost arm. Those without room beside the others are missing.
    """
    found: dict[str, Bursts | ArmLostError] = {}
    arms: dict[str, Arms] = {}
    loads = Turns()
    free = available_bytes()
    with contextlib.ExitStack() as stack:
        for batch in [list(makes)] if at_once else [[name] for name in makes]:
            if arms and available_bytes() <= SPARE_SHARE * free:
                break
            arms |= {name: {side: makes[name](side) for side in order} for name in batch}
            part = Turns()
            load_arms({_key(side, name): arms[name][side] for name in batch for side in order},
                      part, stack)  # fmt: skip
            loads.loaded |= part.loaded
            loads.lost |= part.lost
        for name, own in arms.items():
            try:
                for side in order:
                    if (lost := loads.lost.get(_key(side, name))) is not None:
                        raise lost
                turns = Turns(True)
                turns.loaded = {side: loads.loaded[_key(side, name)] for side in order}
                _take_turns(own, turns, pairs, number)
                found[name] = turns.bursts
            except ArmLostError as lost:
                if lost.outcome.status is not Status.OOM:
                    found[name] = lost
    return found


def _key(side: str, name: str) -> str:
    return f"{side} of {name}"


def _take_turns(arms: Arms, turns: Turns, pairs: int, number: int) -> None:
    take_turns(
        arms, turns, cycle([[0, 1], [1, 0]]), lambda loaded: rounds_of(loaded, pairs),
        same_counts=True, processor=processor_of(number // 2),
    )  # fmt: skip


def measure_block(
    make_arm: MakeArm, schedule: Schedule, order: tuple[Side, Side], pairs: int, number: int = 0
) -> Bursts:
    """Measure one block.

    Args:
        make_arm: makes a side's arm.
        schedule: whether both processes live together.
        order: the side that starts first comes first.
        pairs: most pairs of bursts.
        number: of the block; blocks keep to the processors in turn.

    Raises:
        ArmLostError: an arm failed, ended, hung, or runs under other conditions than its partner.
    """
    if isinstance(make_arm, ElsewhereArms):
        return make_arm.block(schedule, order, pairs, number)
    if schedule == "pairs":
        return _process_pairs(make_arm, order, pairs, processor_of(number // 2))
    arms: Arms = {side: make_arm(side) for side in order}
    turns = Turns(all_or_none=True)
    with contextlib.ExitStack() as stack:
        load_arms(arms, turns, stack)
        _take_turns(arms, turns, pairs, number)
    return turns.bursts


def rounds_of(loaded: Mapping[str, Loaded], most: int) -> int:
    """Rounds of a block: an even number, for each order as many."""
    slowest = max(arm.inference_ns for arm in loaded.values())
    burst_ns = burst_count(slowest) * slowest
    rounds = int(BLOCK_NS / (2 * burst_ns)) // 2 * 2
    return min(max(rounds, FEWEST_PAIRS), most)


def _process_pairs(
    make_arm: MakeArm, order: tuple[Side, Side], pairs: int, processor: int | None
) -> Bursts:
    """One block of four processes in ABBA order, each with half of its side's bursts.

    Each process has its own number of inferences in a burst, because it runs alone. The first one's
    time of an inference says how many bursts all of them take.
    """
    bursts: Bursts = {side: [] for side in SIDES}
    loaded: dict[str, Loaded] = {}
    each = 0

    def rounds(first: Mapping[str, Loaded]) -> int:
        return each or max(1, rounds_of(first, pairs) // 2)

    for side in (*order, *order[::-1]):
        turns = run_block(
            {side: make_arm(side)}, repeat([0]), rounds, all_or_none=True, processor=processor
        )
        each = len(turns.bursts[side])
        bursts[side] += turns.bursts[side]
        loaded[side] = turns.loaded[side]
    unlikes = unlike({side: loaded[side] for side in SIDES})
    if unlikes and processor is not None:  # only one side keeps to a processor: none is to
        return _process_pairs(make_arm, order, pairs, None)
    for error in unlikes.values():
        raise error
    return bursts
