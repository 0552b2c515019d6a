"""Ratios of a run's cases to its reference, from the launches that lived in the same blocks.

A block (``cspbench.store.blocks``) gives one estimate of log(case / reference), by undisturbed
times, by rounds or by successive bursts, whichever is sharpest on the run's own blocks
(``cspbench.measure.ratios``). Beside it stands what the case typically takes, waiting and
neighbours included. Cases that never shared a block with the reference have no ratio here.

The reference runs twice in a block. Its ratio to itself is the check standard, and every other case
is compared with both of its processes, so that what one of them drew counts half.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import median
from typing import Any

from cspbench.core.case import Case
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.replay import ReplayResult
from cspbench.jobs.time import TimeResult
from cspbench.measure.letters import groups, told_apart
from cspbench.measure.ratios import (
    SUCCESSIVE,
    Halves,
    Ratio,
    bounds,
    centre,
    ratio_of,
    sharpest,
)
from cspbench.store.blocks import (
    RUNNING,
    Arm,
    Block,
    Processes,
    arm_of,
    clock_of,
    of_all,
    throttled_rounds,
    waited_more,
)
from cspbench.store.launch import Launch

#: Confidence of the interval that judges the check standard: one run in a hundred is distrusted
#: for nothing.
CHECK_CONFIDENCE = 0.99
#: A case that waited less than this longer or shorter than the reference is not flagged.
WAITING_SHARE = 0.01
#: Most pairs of a run by which its estimate is chosen: a thousand cases are no surer than these.
MOST_COMPARED = 300
#: Name of the reference's second arm among the cases of a block.
CHECK_JOB = "check"


@dataclass(frozen=True)
class CaseRatio:
    """The ratio of a case to the reference, what it is of, and the share that waiting explains.

    ``by`` names the estimate of a block (`cspbench.measure.ratios`). ``typical`` is the
    ratio within a usual round, of elapsed time. ``waiting`` is the share that
    waiting for a processor added to the case beyond the reference; None where a burst does not know
    its waits. ``waited`` says that it is significant and worth a word. ``throttled_rounds`` were
    left out, because the device was throttled in one of the two bursts.
    """

    ratio: Ratio
    of: str
    by: str
    typical: float
    waiting: float | None = None
    waited: bool = False
    throttled_rounds: int = 0


@dataclass(frozen=True)
class Ratios:
    """Ratios of a run by case. ``check`` is that of the case ``check_of`` to itself: the A/A row.

    ``letters`` of cases that cannot be told apart share a letter; the fastest has an a.
    """

    reference: str
    cases: Mapping[str, CaseRatio]
    check: CaseRatio | None
    letters: Mapping[str, str]
    check_of: str | None = None

    @property
    def trusted(self) -> bool:
        """Whether the reference equals itself: 1 lies within the 99 % interval of its ratio."""
        if self.check is None:
            return True
        low, high = bounds(self.check.ratio.per_block, CHECK_CONFIDENCE)
        return low is None or high is None or low <= 1 <= high

    @property
    def distrust(self) -> str:
        """Why no ratio of the run is to be trusted, in a sentence; empty if there is no reason."""
        if self.check is None or self.trusted:
            return ""
        ratio = self.check.ratio
        return (
            f"Do not trust the ratios of this run: {self.check_of} took {ratio.estimate:.3f} times "
            f"as long as itself ({ratio.low:.3f} to {ratio.high:.3f})."
        )


@dataclass(frozen=True)
class ProfiledArm:
    """What a block says of the layers of one of its cases.

    ``profiled`` is how many times longer an inference took with the profiler at work. ``system`` is
    the share of the time of its threads that the kernel took, ``faults`` are minor page faults an
    inference; None where the system does not tell.
    """

    layers: LayerTimes
    profiled: float
    system: float | None = None
    faults: float | None = None


@dataclass(frozen=True)
class SharedBlock:
    """What one block says of two cases, a and b, that were profiled in it.

    ``ratio`` is b / a. ``replay`` are the layers that were replayed beside them, whose pass took
    ``replay_ratio`` times as long as an inference of a.
    """

    ratio: float
    a: ProfiledArm
    b: ProfiledArm
    replay: ReplayResult | None = None
    replay_ratio: float = 0.0


def reference_of(meta: Mapping[str, Any], case: str) -> str | None:
    """The case that the ratio of a case is relative to.

    Args:
        meta: of the run; of a fleet of several boards each has a reference of its own.
        case: id of a case.
    """
    fleet = meta.get("fleet") or {}
    board = fleet.get("seats", {}).get(case)
    of_board: str | None = fleet.get("references", {}).get(board)
    return of_board or meta.get("reference")


def replace_reference(meta: dict[str, Any], case: str) -> None:
    """Note that a case is the reference of its run or board, in place of one that cannot run."""
    fleet = meta.get("fleet") or {}
    board = fleet.get("seats", {}).get(case)
    if board in fleet.get("references", {}):
        fleet["references"][board] = case
    else:
        meta["reference"] = case


class InTurn:
    """The launches of a run that took turns, and what their blocks say of any two cases."""

    def __init__(self, launches: Iterable[Launch] = ()) -> None:
        self._blocks: dict[str, Block] = defaultdict(Block)
        self._estimate: str | None = None
        for launch in launches:
            self.add(launch)

    def add(self, launch: Launch) -> None:
        """Take in one more launch; one that took no turns says nothing."""
        result = launch.result
        if not launch.good or not isinstance(result, TimeResult | ReplayResult):
            return
        if result.turns is None:
            return
        block = self._blocks[f"{launch.session}/{result.turns.block}"]
        arm = arm_of(launch.case, result)
        if isinstance(result, ReplayResult):
            block.replays.append(arm)
        elif launch.job == CHECK_JOB:
            block.again = (launch.case, arm)
        else:
            block.arms[launch.case] = arm
        block.forget()
        self._estimate = None

    @property
    def estimate(self) -> str:
        """The name of the estimate that is sharpest on these blocks (`sharpest`)."""
        if self._estimate is None:
            self._estimate = sharpest(islice(self._halves(), MOST_COMPARED))
        return self._estimate

    def _halves(self) -> Iterator[Mapping[str, Halves]]:
        """Even and odd rounds of the first case of each block beside each other one.

        All blocks of a run are read in one way, so each has to know it.
        """
        ordered = all(block.tells_order for block in self._blocks.values())
        for block in self._blocks.values():
            arms = block.of_cases
            for other in arms[1:]:
                told = block.halves(arms[0], other)
                if not ordered:
                    told.pop(SUCCESSIVE, None)
                yield told

    def _log(
        self, block: Block, bases: Processes, heads: Processes, clock: str | None = None
    ) -> float:
        clock = clock or clock_of(*bases, *heads)
        return block.log(self.estimate, bases, heads, clock)

    def _holding(self, *cases: str) -> tuple[list[Block], str]:
        """The blocks that hold all of these cases, and the clock by which they are compared."""
        blocks = [one for one in self._blocks.values() if one.arms.keys() >= set(cases)]
        arms = (arm for block in blocks for case in cases for arm in block.processes(case))
        return blocks, clock_of(*arms)

    def _ratio(
        self, pairs: Sequence[tuple[Block, Processes, Processes]], comparisons: int
    ) -> CaseRatio:
        """The ratio over blocks, each with the arms of the reference and of the case."""
        clock = clock_of(*(arm for _, bases, heads in pairs for arm in chain(bases, heads)))
        ratio = ratio_of([self._log(*pair, clock) for pair in pairs], comparisons)
        usual = math.exp(centre([block.typical(bases, heads) for block, bases, heads in pairs]))
        if clock != RUNNING:
            left_out = sum(throttled_rounds(bases, heads) for _, bases, heads in pairs)
            return CaseRatio(ratio, clock, self.estimate, usual, throttled_rounds=left_out)
        waits = [of_all(waited_more, bases, heads) for _, bases, heads in pairs]
        shift = ratio_of(waits, comparisons)
        apart = shift.all_low is not None and not shift.all_low <= 1 <= (shift.all_high or math.inf)
        waiting = shift.estimate - 1
        waited = apart and abs(waiting) >= WAITING_SHARE
        return CaseRatio(ratio, RUNNING, self.estimate, usual, waiting, waited)

    def _replay(self, block: Block, a: str, b: str) -> tuple[ReplayResult | None, float]:
        """The layers of both cases that were replayed in a block, and their pass / a."""
        for arm in block.replays:
            if isinstance(arm.result, ReplayResult) and {a, b} <= set(arm.result.cases):
                return arm.result, math.exp(self._log(block, block.processes(a), [arm]))
        return None, 0.0

    def ratio(self, case: str, base: str, comparisons: int = 1) -> CaseRatio | None:
        """``case`` / ``base`` over the blocks that both were in; None if there is none.

        ``comparisons`` are how many cases are compared with the same base in all.
        """
        pairs = [
            (block, block.processes(base), block.processes(case))
            for block in self._blocks.values()
            if base in block.arms and case in block.arms
        ]
        return self._ratio(pairs, comparisons) if pairs else None

    def shared(self, a: str, b: str) -> list[SharedBlock]:
        """The blocks in which both cases were profiled."""
        found = []
        blocks, clock = self._holding(a, b)
        for block in blocks:
            profiles = _profiled(block.arms[a], a), _profiled(block.arms[b], b)
            if profiles[0] is not None and profiles[1] is not None:
                ratio = math.exp(self._log(block, block.processes(a), block.processes(b), clock))
                replay = self._replay(block, a, b)
                found.append(SharedBlock(ratio, profiles[0], profiles[1], *replay))
        return found

    def together(self, base: str, cases: Sequence[str]) -> list[dict[str, float]]:
        """Of each block that holds all of these cases: their times relative to ``base``."""
        blocks, clock = self._holding(base, *cases)
        return [
            {
                case: math.exp(
                    self._log(block, block.processes(base), block.processes(case), clock)
                )
                for case in cases
            }
            for block in blocks
        ]

    def relative_to(self, reference: str) -> Ratios:
        """The ratios of all cases that shared blocks with the reference."""
        shared = {name: block for name, block in self._blocks.items() if reference in block.arms}
        others = dict.fromkeys(case for block in shared.values() for case in block.arms)
        others.pop(reference, None)
        found = {
            case: ratio
            for case in others
            if (ratio := self.ratio(case, reference, len(others))) is not None
        }
        checks = [(block, *check) for block in self._blocks.values() if (check := block.check)]
        return Ratios(
            reference=reference,
            cases=found,
            check=self._ratio(checks, 1) if checks else None,
            letters=_letters(shared, reference, found),
            check_of=next((b.again[0] for b in self._blocks.values() if b.check and b.again), None),
        )


def _letters(
    shared: Mapping[str, Block], reference: str, found: Mapping[str, CaseRatio]
) -> dict[str, str]:
    """Letters of the cases that shared at least two blocks with the reference."""
    logs = {reference: dict.fromkeys(shared, 0.0)}
    for case, its in found.items():
        names = [name for name, block in shared.items() if case in block.arms]
        logs[case] = dict(zip(names, its.ratio.per_block, strict=True))
    logs = {case: of_case for case, of_case in logs.items() if len(of_case) > 1}
    if len(logs) < 2:
        return {}
    ordered = sorted(logs, key=lambda case: centre([*logs[case].values()]))
    return groups(ordered, told_apart(logs))


def _profiled(arm: Arm, case: str) -> ProfiledArm | None:
    result, turns = arm.result, arm.result.turns
    if not isinstance(result, TimeResult) or result.layers is None or turns is None:
        return None
    count, total = len(result.latencies_ns), sum(result.latencies_ns)
    of_threads = Case.parse(case).threads * max(total, 1)
    return ProfiledArm(
        result.layers,
        median(turns.profiled) if turns.profiled else 1.0,
        None if turns.system_ns is None else turns.system_ns / of_threads,
        None if turns.minor_faults is None else turns.minor_faults / count,
    )
