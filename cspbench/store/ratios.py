"""Ratios of a run's cases to its reference, from the launches that lived in the same blocks.

A block gives one estimate: the median over its rounds of log(case / reference). With one thread on
a processor a burst knows how long its process was ready but did not run; if both cases do, the
estimate is of running time (elapsed less that wait), otherwise of elapsed time, or of the device's
own where it has events. Cases that never shared a block with the reference have no ratio here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cspbench.core.case import Case
from cspbench.jobs.time import TimeResult
from cspbench.measure.ratios import Ratio, block_estimate, groups, ratio_of, told_apart
from cspbench.store.launch import Launch

#: What a ratio is of.
RUNNING, ELAPSED, DEVICE = "running time", "elapsed time", "device time"
#: Name of the reference's second arm among the cases of a block.
CHECK_JOB = "check"


@dataclass(frozen=True)
class CaseRatio:
    """The ratio of a case to the reference, what it is of, and the share that waiting explains.

    ``waiting`` is the ratio of elapsed time divided by that of running time, less 1; None where the
    two are not both known. ``waited`` says that it is significant.
    """

    ratio: Ratio
    of: str
    waiting: float | None = None
    waited: bool = False


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
        """Whether the reference equals itself within its interval."""
        if self.check is None or self.check.ratio.low is None or self.check.ratio.high is None:
            return True
        return self.check.ratio.low <= 1 <= self.check.ratio.high


@dataclass(frozen=True)
class _Arm:
    """Time of an inference in each round of a block, in ns."""

    elapsed: list[float]
    running: list[float] | None
    on_device: bool


#: Arms of each block by case; the reference's second arm has the key "".
_Blocks = dict[str, dict[str, _Arm]]


def ratios_of(launches: Iterable[Launch], reference: str) -> Ratios:
    """The ratios of all cases that shared blocks with the reference.

    Args:
        launches: of one run.
        reference: id of a case.
    """
    blocks = _blocks(launches)
    shared = {name: arms for name, arms in blocks.items() if reference in arms}
    others = list(dict.fromkeys(case for arms in shared.values() for case in arms))
    count = max(1, sum(case not in ("", reference) for case in others))
    found = {
        case: _ratio([(arms[reference], arms[case]) for arms in shared.values() if case in arms],
                     1 if case == "" else count)
        for case in others if case != reference
    }  # fmt: skip
    check = found.pop("", None)
    return Ratios(reference, found, check, _letters(shared, reference))


def _blocks(launches: Iterable[Launch]) -> _Blocks:
    blocks: _Blocks = defaultdict(dict)
    for launch in launches:
        result = launch.result
        if launch.good and isinstance(result, TimeResult) and result.turns is not None:
            key = "" if launch.job == CHECK_JOB else launch.case
            blocks[f"{launch.session}/{result.turns.block}"][key] = _arm(launch.case, result)
    return blocks


def _arm(case_id: str, result: TimeResult) -> _Arm:
    turns = result.turns
    assert turns is not None
    sums, start = [], 0
    for count in turns.counts:
        sums.append(sum(result.latencies_ns[start : start + count]))
        start += count
    elapsed = turns.device_ns or sums
    running = None
    if turns.lost_ns is not None and turns.device_ns is None and Case.parse(case_id).threads == 1:
        running = [
            max(total - lost, 1) / count
            for total, lost, count in zip(sums, turns.lost_ns, turns.counts, strict=True)
        ]
    means = [max(total, 1) / count for total, count in zip(elapsed, turns.counts, strict=True)]
    return _Arm(means, running, turns.device_ns is not None)


def _ratio(pairs: Sequence[tuple[_Arm, _Arm]], comparisons: int) -> CaseRatio:
    """The ratio over blocks of (reference, case)."""
    elapsed = [_estimate(base.elapsed, head.elapsed) for base, head in pairs]
    if any(base.running is None or head.running is None for base, head in pairs):
        on_device = all(base.on_device and head.on_device for base, head in pairs)
        return CaseRatio(ratio_of(elapsed, comparisons), DEVICE if on_device else ELAPSED)
    running = [_estimate(base.running or [], head.running or []) for base, head in pairs]
    shift = ratio_of([a - b for a, b in zip(elapsed, running, strict=True)], comparisons)
    waited = shift.all_low is not None and not shift.all_low <= 1 <= (shift.all_high or math.inf)
    return CaseRatio(ratio_of(running, comparisons), RUNNING, shift.estimate - 1, waited)


def _estimate(base: Sequence[float], head: Sequence[float]) -> float:
    # A block that was cut short leaves some arms with a round more.
    rounds = min(len(base), len(head))
    return block_estimate(base[:rounds], head[:rounds])


def _letters(shared: _Blocks, reference: str) -> dict[str, str]:
    """Letters of the cases that were in every block of the reference."""
    names = [case for case in next(iter(shared.values()), {}) if case]
    names = [case for case in names if all(case in arms for arms in shared.values())]
    if len(names) < 2 or len(shared) < 2:
        return {}
    logs = {case: [_log(arms[reference], arms[case]) for arms in shared.values()] for case in names}
    ordered = sorted(names, key=lambda case: fmean(logs[case]))
    return groups(ordered, told_apart(logs))


def _log(base: _Arm, head: _Arm) -> float:
    if base.running is not None and head.running is not None:
        return _estimate(base.running, head.running)
    return _estimate(base.elapsed, head.elapsed)


def reference_of(meta: Mapping[str, Any]) -> str | None:
    """The case that a run's ratios are relative to: the one that it noted."""
    reference = meta.get("reference")
    return str(reference) if reference else None
