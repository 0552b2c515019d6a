"""Ratios of a run's cases to its reference, from the launches that lived in the same blocks.

A block gives one estimate of log(case / reference), by undisturbed times or by rounds, whichever is
sharper on the run's own blocks (``cspbench.measure.ratios``). With one thread on a processor a
burst knows how long its process did not run; if both cases do, the estimate is of running time
(elapsed less that wait), otherwise of elapsed time, or of the device's own where it has events.
Beside it stands what the case typically takes, waiting and neighbours included. Cases that never
shared a block with the reference have no ratio here.

The reference runs twice in a block. Its ratio to itself is the check standard, and every other case
is compared with both of its processes, so that what one of them drew counts half.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, product
from statistics import fmean, median
from typing import Any, TypeAlias

from cspbench.core.case import Case
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.replay import ReplayResult
from cspbench.jobs.time import TimeResult
from cspbench.measure.ratios import (
    ESTIMATES,
    Bursts,
    Ratio,
    bounds,
    centre,
    groups,
    log_waited,
    ratio_of,
    sharper,
    steady_rounds,
    told_apart,
)
from cspbench.store.launch import Launch

#: What a ratio is of.
RUNNING, ELAPSED, DEVICE = "running time", "elapsed time", "device time"
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

    ``by`` names the estimate of a block (`cspbench.measure.ratios.ESTIMATES`). ``typical`` is the
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
    """Ratios of a run by case. ``check`` is the reference's to itself: the A/A row.

    ``letters`` of cases that cannot be told apart share a letter; the fastest has an a.
    """

    reference: str
    cases: Mapping[str, CaseRatio]
    check: CaseRatio | None
    letters: Mapping[str, str]

    @property
    def trusted(self) -> bool:
        """Whether the reference equals itself: 1 lies within the 99 % interval of its ratio."""
        if self.check is None:
            return True
        low, high = bounds(self.check.ratio.per_block, CHECK_CONFIDENCE)
        return low is None or high is None or low <= 1 <= high


@dataclass(frozen=True)
class ProfiledArm:
    """What a block says of the layers of one of its cases.

    ``profiled`` is how many times longer an inference took with the profiler at work. ``system`` is
    the share of its time that the kernel took, ``faults`` are minor page faults an inference; None
    where the system does not tell.
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


@dataclass(frozen=True)
class _Arm:
    """Time of an inference in each round of a block, in ns.

    ``each_elapsed`` (by the host's clock), ``each_running`` and ``each_device`` hold the inferences
    of each burst, or its mean where nothing else is known.
    """

    elapsed: list[float]
    running: list[float] | None
    each_elapsed: Bursts
    each_running: Bursts | None
    each_device: Bursts | None
    throttled_ns: list[int] | None
    result: TimeResult | ReplayResult


#: The arms of one case in a block.
Processes: TypeAlias = Sequence[_Arm]


@dataclass
class _Block:
    """Arms of a block by case; ``again`` is the run's reference with its second arm."""

    arms: dict[str, _Arm] = field(default_factory=dict)
    again: tuple[str, _Arm] | None = None
    replays: list[_Arm] = field(default_factory=list)

    @property
    def check(self) -> tuple[Processes, Processes] | None:
        """Both arms of the reference; None if one of them is missing."""
        if self.again is None or self.again[0] not in self.arms:
            return None
        return [self.arms[self.again[0]]], [self.again[1]]

    def processes(self, case: str) -> Processes:
        """The arms of a case: of the run's reference both."""
        return [self.arms[case], *([self.again[1]] if self.again and self.again[0] == case else [])]


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


class InTurn:
    """The launches of a run that took turns, and what their blocks say of any two cases."""

    def __init__(self, launches: Iterable[Launch] = ()) -> None:
        self._blocks: dict[str, _Block] = defaultdict(_Block)
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
        block, arm = (
            self._blocks[f"{launch.session}/{result.turns.block}"],
            _arm(launch.case, result),
        )
        if isinstance(result, ReplayResult):
            block.replays.append(arm)
        elif launch.job == CHECK_JOB:
            block.again = (launch.case, arm)
        else:
            block.arms[launch.case] = arm
        self._estimate = None

    @property
    def estimate(self) -> str:
        """The name of the estimate that is sharper on these blocks (`sharper`)."""
        if self._estimate is None:
            self._estimate = sharper(islice(self._neighbours(), MOST_COMPARED))
        return self._estimate

    def _neighbours(self) -> Iterator[tuple[Bursts, Bursts]]:
        """Bursts of the first case of each block beside those of each other one."""
        for block in self._blocks.values():
            arms = [*block.arms.values(), *([block.again[1]] if block.again else [])]
            for other in arms[1:]:
                yield _bursts(arms[0], other)

    def _log(self, bases: Processes, heads: Processes) -> float:
        """What a block shows, of running time where both arms know it."""
        estimate = ESTIMATES[self.estimate]
        return _of_all(lambda base, head: estimate(*_bursts(base, head)), bases, heads)

    def _ratio(self, pairs: Sequence[tuple[Processes, Processes]], comparisons: int) -> CaseRatio:
        """The ratio over blocks of (reference, case)."""
        ratio = ratio_of([self._log(bases, heads) for bases, heads in pairs], comparisons)
        typical = math.exp(centre([_of_all(_typical, bases, heads) for bases, heads in pairs]))
        arms = [arm for pair in pairs for arm in chain(*pair)]
        if any(arm.running is None for arm in arms):
            of = DEVICE if all(arm.each_device is not None for arm in arms) else ELAPSED
            left_out = sum(_throttled_rounds(bases, heads) for bases, heads in pairs)
            return CaseRatio(ratio, of, self.estimate, typical, throttled_rounds=left_out)
        waits = [_of_all(_waited_more, bases, heads) for bases, heads in pairs]
        shift = ratio_of(waits, comparisons)
        apart = shift.all_low is not None and not shift.all_low <= 1 <= (shift.all_high or math.inf)
        waiting = shift.estimate - 1
        waited = apart and abs(waiting) >= WAITING_SHARE
        return CaseRatio(ratio, RUNNING, self.estimate, typical, waiting, waited)

    def _replay(self, block: _Block, a: str, b: str) -> tuple[ReplayResult | None, float]:
        """The layers of both cases that were replayed in a block, and their pass / a."""
        for arm in block.replays:
            if isinstance(arm.result, ReplayResult) and {a, b} <= set(arm.result.cases):
                return arm.result, math.exp(self._log(block.processes(a), [arm]))
        return None, 0.0

    def ratio(self, case: str, base: str, comparisons: int = 1) -> CaseRatio | None:
        """``case`` / ``base`` over the blocks that both were in; None if there is none.

        ``comparisons`` are how many cases are compared with the same base in all.
        """
        pairs = [
            (block.processes(base), block.processes(case))
            for block in self._blocks.values()
            if base in block.arms and case in block.arms
        ]
        return self._ratio(pairs, comparisons) if pairs else None

    def shared(self, a: str, b: str) -> list[SharedBlock]:
        """The blocks in which both cases were profiled."""
        found = []
        for block in self._blocks.values():
            if a in block.arms and b in block.arms:
                profiles = _profiled(block.arms[a]), _profiled(block.arms[b])
                if profiles[0] is not None and profiles[1] is not None:
                    ratio = math.exp(self._log(block.processes(a), block.processes(b)))
                    replay = self._replay(block, a, b)
                    found.append(SharedBlock(ratio, profiles[0], profiles[1], *replay))
        return found

    def together(self, base: str, cases: Sequence[str]) -> list[dict[str, float]]:
        """Of each block that holds all of these cases: their times relative to ``base``."""
        return [
            {
                case: math.exp(self._log(block.processes(base), block.processes(case)))
                for case in cases
            }
            for block in self._blocks.values()
            if {base, *cases} <= block.arms.keys()
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
        checks = [block.check for block in self._blocks.values() if block.check is not None]
        return Ratios(
            reference=reference,
            cases=found,
            check=self._ratio(checks, 1) if checks else None,
            letters=_letters(shared, reference, found),
        )


def _letters(
    shared: Mapping[str, _Block], reference: str, found: Mapping[str, CaseRatio]
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


def _of_all(estimate: Callable[[_Arm, _Arm], float], bases: Processes, heads: Processes) -> float:
    """The mean of an estimate over all pairs of a process of one case and one of the other."""
    return fmean(estimate(base, head) for base, head in product(bases, heads))


def _typical(base: _Arm, head: _Arm) -> float:
    return ESTIMATES["rounds"](*_steady(base, head, base.each_elapsed, head.each_elapsed))


def _throttled_rounds(bases: Processes, heads: Processes) -> int:
    """Rounds of a block that were left out, of the first process of each."""
    base, head = bases[0], heads[0]
    rounds = min(len(base.elapsed), len(head.elapsed))
    return rounds - len(steady_rounds(rounds, base.throttled_ns, head.throttled_ns))


def _steady(base: _Arm, head: _Arm, of_base: Bursts, of_head: Bursts) -> tuple[Bursts, Bursts]:
    """The bursts of the rounds in which the device was not throttled."""
    if base.throttled_ns is None and head.throttled_ns is None:
        return of_base, of_head
    rounds = min(len(of_base), len(of_head))
    kept = steady_rounds(rounds, base.throttled_ns, head.throttled_ns)
    return [of_base[number] for number in kept], [of_head[number] for number in kept]


def _waited_more(base: _Arm, head: _Arm) -> float:
    """By which log the waiting of the head exceeds that of the base; both know theirs."""
    assert base.running is not None
    assert head.running is not None
    return log_waited(head.elapsed, head.running) - log_waited(base.elapsed, base.running)


def _profiled(arm: _Arm) -> ProfiledArm | None:
    result, turns = arm.result, arm.result.turns
    if not isinstance(result, TimeResult) or result.layers is None or turns is None:
        return None
    count, total = len(result.latencies_ns), sum(result.latencies_ns)
    return ProfiledArm(
        result.layers,
        median(turns.profiled) if turns.profiled else 1.0,
        None if turns.system_ns is None else turns.system_ns / max(total, 1),
        None if turns.minor_faults is None else turns.minor_faults / count,
    )


def _arm(case_id: str, result: TimeResult | ReplayResult) -> _Arm:
    turns = result.turns
    assert turns is not None
    counts = turns.counts
    sums = [sum(burst) for burst in _parts(result.latencies_ns, counts)]
    running = None
    if turns.lost_ns is not None and turns.device_ns is None and Case.parse(case_id).threads == 1:
        running = [
            max(total - lost, 1) / count
            for total, lost, count in zip(sums, turns.lost_ns, counts, strict=True)
        ]
    means = [max(total, 1) / count for total, count in zip(sums, counts, strict=True)]
    device = turns.device_ns
    return _Arm(
        elapsed=means,
        running=running,
        each_elapsed=_by_burst(result.latencies_ns, counts, means),
        # Of older runs only the means of bursts are known, as of a device.
        each_running=_by_burst(turns.running_ns, counts, running) if running else None,
        each_device=None
        if device is None
        else [[max(total, 1) / count] for total, count in zip(device, counts, strict=True)],
        throttled_ns=turns.throttled_ns,
        result=result,
    )


def _bursts(base: _Arm, head: _Arm) -> tuple[Bursts, Bursts]:
    """Times of two arms by one clock: running time, or a device's own, where both know it."""
    times = base.each_elapsed, head.each_elapsed
    if base.each_running is not None and head.each_running is not None:
        times = base.each_running, head.each_running
    elif base.each_device is not None and head.each_device is not None:
        times = base.each_device, head.each_device
    return _steady(base, head, *times)


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
