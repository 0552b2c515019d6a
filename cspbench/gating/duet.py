"""The gate's blocks: base and head live together and take bursts in turn.

Rounds of some 2.4 seconds are a block. They alternate (ABBA), so that each pair of neighbours is
one burst of each side. With one thread both sides keep to one processor, those of the next block to
the next. If two models do not fit into memory together, the schedule is ``pairs``: whole processes
in ABBA order, one alive at a time. Its pairs are seconds apart and therefore less precise.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Literal

from cspbench.core.statuses import Status
from cspbench.machine.processors import processor_of
from cspbench.measure.ratios import log_waited
from cspbench.runner.arms import Arm, ArmLostError, Burst, Loaded
from cspbench.runner.interleaved import burst_count, run_block, unlike

#: Most and fewest rounds of a block, and the time that its bursts take if neither bounds them.
PAIRS, FEWEST_PAIRS, BLOCK_NS = 240, 30, 2.4e9

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

    def inference_ns(self, side: Side) -> list[float]:
        """Mean time of an inference in each burst of a side."""
        return [burst.inference_ns for burst in getattr(self, side)]

    def running_ns(self, side: Side) -> list[float]:
        """The same without the time in which the process was ready but did not run."""
        return [burst.running_ns for burst in getattr(self, side)]

    def waited(self, side: Side) -> float:
        """log(elapsed / running time) of all bursts of a side together."""
        return log_waited(self.inference_ns(side), self.running_ns(side))

    @property
    def knows_running(self) -> bool:
        """Whether every burst knows how long its process was ready but did not run."""
        return all(burst.lost_ns is not None for burst in (*self.base, *self.head))


#: Makes the arm of a side; called anew for each process.
MakeArm = Callable[[Side], Arm]
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


def measure_blocks(make_arm: MakeArm, pairs: int = PAIRS) -> Iterator[Block]:
    """Measure block after block, as long as the caller asks for more.

    If the two sides do not fit into memory together, the schedule is ``pairs`` from then on.

    Args:
        make_arm: makes a side's arm. This function starts and ends the processes.
        pairs: pairs of bursts in a block.

    Raises:
        ArmLostError: an arm failed, ended, hung, or runs under other conditions than its partner.
    """
    schedule: Schedule = "duet"
    number = 0
    while True:
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        started = time.monotonic()
        try:
            bursts = measure_block(make_arm, schedule, order, pairs, number)
        except ArmLostError as lost:
            if lost.outcome.status is not Status.OOM or schedule == "pairs":
                raise
            schedule = "pairs"
            continue
        yield Block(
            number, order[0], schedule, tuple(bursts["base"]), tuple(bursts["head"]),
            time.monotonic() - started,
        )  # fmt: skip
        number += 1


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
    measure = _together if schedule == "duet" else _process_pairs
    return measure(make_arm, order, pairs, processor_of(number // 2))


def rounds_of(loaded: Mapping[str, Loaded], most: int) -> int:
    """Rounds of a block: an even number, for each order as many."""
    slowest = max(arm.inference_ns for arm in loaded.values())
    burst_ns = burst_count(slowest) * slowest
    rounds = int(BLOCK_NS / (2 * burst_ns)) // 2 * 2
    return min(max(rounds, FEWEST_PAIRS), most)


def _together(
    make_arm: MakeArm, order: tuple[Side, Side], pairs: int, processor: int | None
) -> Bursts:
    """One block with both processes alive."""
    turns = run_block(
        {side: make_arm(side) for side in order}, cycle([[0, 1], [1, 0]]),
        lambda loaded: rounds_of(loaded, pairs),
        same_counts=True, all_or_none=True, processor=processor,
    )  # fmt: skip
    return turns.bursts


def _process_pairs(
    make_arm: MakeArm, order: tuple[Side, Side], pairs: int, processor: int | None
) -> Bursts:
    """One block of four processes in ABBA order, each with half of its side's bursts.

    Each process has its own number of inferences in a burst, because it runs alone.
    """
    bursts: Bursts = {side: [] for side in SIDES}
    loaded: dict[str, Loaded] = {}
    for side in (*order, *order[::-1]):
        turns = run_block(
            {side: make_arm(side)},
            repeat([0]),
            lambda _: max(1, pairs // 2),
            all_or_none=True,
            processor=processor,
        )
        bursts[side] += turns.bursts[side]
        loaded[side] = turns.loaded[side]
    for error in unlike({side: loaded[side] for side in SIDES}).values():
        raise error
    return bursts
