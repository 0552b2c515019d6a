"""Measured rules of a suite: launches of both sides in turn, and what they mean for a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import CaseVerdict, Lost, Verdict
from cspbench.jobs.spec import JOBS
from cspbench.runner.process import WorkerProcess
from cspbench.suite.rules import MeasuredRule, rules

#: A rule and the growth that the suite allows.
Limit = tuple[MeasuredRule, float]


@dataclass(frozen=True)
class MeasuredChange:
    """The number of one rule and case on both sides, a value a launch.

    ``limit`` is the largest growth that the suite allows, as a share; ``reason`` the code of a
    verdict that it makes; ``job`` what the launches did.
    """

    metric: str
    case: str
    base: tuple[float, ...]
    head: tuple[float, ...]
    limit: float
    blocked: bool
    unit: str
    job: str
    reason: str

    @property
    def change(self) -> float | None:
        """Growth of the median as a share; None if the base has nothing."""
        base = median(self.base)
        return median(self.head) / base - 1 if base else None

    @property
    def sentence(self) -> str:
        """What changed."""
        old, new = (_text(median(values)) for values in (self.base, self.head))
        grown = "" if self.change is None else f" ({self.change * 100:+.1f} %)"
        return f"{self.metric} {old} -> {new}{grown}, the suite allows {self.limit * 100:+g} %"


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"


def measured_rules(limits: Mapping[str, float]) -> list[Limit]:
    """The measured ones among a suite's rules, those of one job beside each other."""
    known = rules()
    found = [(rule, limit) for name, limit in limits.items()
             if isinstance(rule := known.get(name), MeasuredRule)]  # fmt: skip
    return sorted(found, key=lambda pair: pair[0].job)


def measure_rules(
    pair: Pair, base: OpenSide, head: OpenSide, limits: Sequence[Limit]
) -> list[MeasuredChange | Lost]:
    """Launch both sides in turn, each process alone, for every rule.

    Args:
        pair: the case on both sides.
        base: the base's side.
        head: the head's side.
        limits: rules of `measured_rules`.

    Returns:
        For each rule the change, or why there is none: on a machine that cannot tell, that is an
        answer.
    """
    found: list[MeasuredChange | Lost] = []
    for job, group in groupby(limits, key=lambda limit: limit[0].job):
        of_job = list(group)
        number = max(rule.launches for rule, _ in of_job)
        results = _results(pair, base, head, job, number)
        found += [
            results if isinstance(results, Lost) else _change(pair.name, rule, limit, results)
            for rule, limit in of_job
        ]
    return found


#: Typed results by side.
_Results = dict[str, list[Any]]


def _results(
    pair: Pair, base: OpenSide, head: OpenSide, job: str, launches: int
) -> _Results | Lost:
    results: _Results = {"base": [], "head": []}
    sides = {"base": (base, pair.base), "head": (head, pair.head)}
    for _ in range(launches):
        for name, (side, prepared) in sides.items():
            result = _launch(side, prepared, job)
            if isinstance(result, Lost):
                return Lost(result.reason, f"{job} of the {name}: {result.text}")
            results[name].append(result)
    return results


def _launch(side: OpenSide, prepared: Prepared, job: str) -> Any:
    """The typed result of one launch, or why there is none (`Lost`)."""
    kind, measure = JOBS.get(job), side.suite.measure
    request = kind.request(
        case=prepared.case,
        artifact=Path(prepared.artifact),
        reference=Path(prepared.reference),
        seed=measure.seed,
        warmup_seconds=measure.warmup_seconds,
        target_ci=measure.target_ci,
        max_seconds=measure.max_seconds,
    )
    worker = WorkerProcess(
        prepared.case.threads, python=side.python, path=side.path, extra=kind.environment
    )
    try:
        outcome = worker.ask(request.to_json(), measure.timeout_seconds)
    finally:
        worker.close()
    result = outcome.checked(job)
    return Lost("arm_ended", f"{outcome.status}: {outcome.reason}") if result is None else result


def _change(
    case: str, rule: MeasuredRule, limit: float, results: _Results
) -> MeasuredChange | Lost:
    values: dict[str, tuple[float, ...]] = {}
    for side, told in results.items():
        numbers = [rule.value(result) for result in told[: rule.launches]]
        if None in numbers:
            return Lost("arm_ended", f"a launch of the {side} does not tell {rule.name}")
        values[side] = tuple(number for number in numbers if number is not None)
    return MeasuredChange(
        metric=rule.name,
        case=case,
        base=values["base"],
        head=values["head"],
        limit=limit,
        blocked=rule.exceeded(values["base"], values["head"], limit),
        unit=rule.unit,
        job=rule.job,
        reason=rule.reason,
    )


def with_measured(verdict: CaseVerdict, changes: Iterable[MeasuredChange]) -> CaseVerdict:
    """The verdict on a case, given its measured rules: more than allowed is a regression."""
    for change in changes:
        if change.case == verdict.case and change.blocked:
            sentence = f"{change.sentence}; {verdict.sentence}"
            reason = verdict.reason if verdict.verdict is Verdict.SLOWER else change.reason
            verdict = replace(verdict, verdict=Verdict.SLOWER, reason=reason, sentence=sentence)
    return verdict
