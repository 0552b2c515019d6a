"""Peak memory of both sides, where the suite has a rule for it: in launches of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import CaseVerdict, Lost, Verdict
from cspbench.jobs.memory import MemoryRequest, MemoryResult
from cspbench.measure.memory import MALLOC_ENVIRONMENT
from cspbench.runner.process import WorkerProcess

RULE = "peak_memory_bytes"
#: Launches a side: peaks repeat within a few percent.
LAUNCHES = 3


@dataclass(frozen=True)
class MemoryChange:
    """Peak memory of one case on both sides, in bytes, a value a launch."""

    case: str
    base: tuple[int, ...]
    head: tuple[int, ...]
    limit: float

    @property
    def change(self) -> float:
        """Growth of the median as a share."""
        return median(self.head) / median(self.base) - 1

    @property
    def blocked(self) -> bool:
        """True if the median grew beyond the limit and every launch of the head took more."""
        return self.change > self.limit and min(self.head) > max(self.base)

    @property
    def sentence(self) -> str:
        """What changed."""
        return (
            f"peak_memory_bytes {median(self.base):,.0f} -> {median(self.head):,.0f} "
            f"({self.change * 100:+.1f} %), the suite allows {self.limit * 100:+g} %"
        )


def measure_memory(pair: Pair, base: OpenSide, head: OpenSide, limit: float) -> MemoryChange | Lost:
    """Launch both sides in turn, each process alone.

    Returns:
        The peaks, or why there are none: on a system that cannot tell, that is an answer.
    """
    peaks: dict[str, list[int]] = {"base": [], "head": []}
    sides = {"base": (base, pair.base), "head": (head, pair.head)}
    for _ in range(LAUNCHES):
        for name, (side, prepared) in sides.items():
            outcome = _launch(side, prepared)
            if isinstance(outcome, Lost):
                return Lost(outcome.reason, f"memory of the {name}: {outcome.text}")
            peaks[name].append(outcome)
    return MemoryChange(pair.name, tuple(peaks["base"]), tuple(peaks["head"]), limit)


def _launch(side: OpenSide, prepared: Prepared) -> int | Lost:
    worker = WorkerProcess(
        prepared.case.threads, python=side.python, path=side.path, extra=MALLOC_ENVIRONMENT
    )
    request = MemoryRequest(prepared.case, Path(prepared.artifact), seed=side.suite.measure.seed)
    try:
        outcome = worker.ask(request.to_json(), side.suite.measure.timeout_seconds)
    finally:
        worker.close()
    found: MemoryResult | None = outcome.checked(request.job)
    if found is None:
        return Lost("arm_ended", f"{outcome.status}: {outcome.reason}")
    return max(found.memory.peak_memory_bytes or 0, 1)


def with_memory(verdict: CaseVerdict, changes: Sequence[MemoryChange]) -> CaseVerdict:
    """The verdict on a case, given what its memory did: more than allowed is a regression."""
    for change in changes:
        if change.case == verdict.case and change.blocked:
            sentence = f"{change.sentence}; {verdict.sentence}"
            if verdict.verdict is Verdict.SLOWER:
                return replace(verdict, sentence=sentence)
            return replace(verdict, verdict=Verdict.SLOWER, reason="peak_memory", sentence=sentence)
    return verdict
