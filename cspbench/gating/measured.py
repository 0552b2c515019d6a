"""Measured rules of a suite: launches of both sides in turn, and their effect on a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from cspbench.backends.spec import BACKENDS, device_of
from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import CaseVerdict, Unmeasured, Verdict
from cspbench.jobs.spec import JOBS, CaseRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.process import Outcome
from cspbench.suite.rules import MeasuredRule, rules

#: A rule and the growth that the suite allows.
Limit = tuple[MeasuredRule, float]


@dataclass(frozen=True)
class MeasuredChange:
    """The number of one rule and case on both sides, with a value for each launch.

    ``limit`` is the largest growth that the suite allows, as a share. ``reason`` is the code of the
    verdict if the growth is larger. ``job`` is the kind of the launches.
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
        """Growth of the median as a share; None if the base's median is 0."""
        base = median(self.base)
        return median(self.head) / base - 1 if base else None

    @property
    def sentence(self) -> str:
        """The change and its limit."""
        old, new = (_text(median(values)) for values in (self.base, self.head))
        growth = "" if self.change is None else f" ({self.change * 100:+.1f} %)"
        return f"{self.metric} {old} -> {new}{growth}, the suite allows {self.limit * 100:+g} %"


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"


def measured_rules(limits: Mapping[str, float]) -> list[Limit]:
    """The measured rules of a suite, sorted by their job."""
    known = rules()
    measured = [(rule, limit) for name, limit in limits.items()
                if isinstance(rule := known.get(name), MeasuredRule)]  # fmt: skip
    return sorted(measured, key=lambda item: item[0].job)


#: Does one job of a side: threads, and the bound of each phase in seconds.
Launcher = Callable[[OpenSide, CaseRequest, int, float], Outcome]


def launcher_here() -> Launcher:
    """Does jobs in workers of this machine, each in its side's environment."""
    executor = LocalExecutor()  # one, so that idle power is measured once

    def launch(side: OpenSide, request: CaseRequest, threads: int, timeout: float) -> Outcome:
        return executor.launch(request, threads, timeout, side.python, side.path)

    return launch


def measure_rules(
    pair: Pair,
    base: OpenSide,
    head: OpenSide,
    limits: Sequence[Limit],
    launch: Launcher,
) -> list[MeasuredChange | Unmeasured]:
    """Launch both sides in turn, one process at a time, for every rule.

    Args:
        pair: the case on both sides.
        base: the base's side.
        head: the head's side.
        limits: rules of `measured_rules`.
        launch: does a job.

    Returns:
        For each rule the change, or the reason why there is none (one for all rules of a job that
        failed), such as a machine that does not report the number.
    """
    changes: list[MeasuredChange | Unmeasured] = []
    for job, group in groupby(limits, key=lambda limit: limit[0].job):
        of_job = list(group)
        number = max(rule.launches for rule, _ in of_job)
        results = _results(pair, base, head, job, number, launch)
        if isinstance(results, Unmeasured):
            names = " and ".join(rule.name for rule, _ in of_job)
            changes.append(Unmeasured(results.reason, f"{names} by {results.text}"))
            continue
        changes += [_change(pair.name, rule, limit, results) for rule, limit in of_job]
    return changes


class _Answered(NamedTuple):
    """The typed result of a launch, and what the executor noted about it."""

    result: Any
    notes: Mapping[str, Any]

    def number(self, rule: MeasuredRule) -> float | None:
        """The number of a rule; None if this launch does not report it."""
        source = self.notes.get(rule.note) if rule.note else self.result
        return None if source is None else rule.value(source)


#: Launches by side.
_Results = dict[str, list[_Answered]]


def _results(
    pair: Pair, base: OpenSide, head: OpenSide, job: str, launches: int, launch: Launcher
) -> _Results | Unmeasured:
    results: _Results = {"base": [], "head": []}
    sides = {"base": (base, pair.base), "head": (head, pair.head)}
    for _ in range(launches):
        for name, (side, prepared) in sides.items():
            result = _launch(side, prepared, job, launch)
            if isinstance(result, Unmeasured):
                return Unmeasured(result.reason, f"{job} of the {name}: {result.text}")
            results[name].append(result)
    return results


def _launch(
    side: OpenSide, prepared: Prepared, job: str, launch: Launcher
) -> _Answered | Unmeasured:
    """One launch, or the reason why there is no result."""
    measure = side.suite.measure
    backend = prepared.case.backend
    request = JOBS.get(job).request(
        case=prepared.case,
        artifact=Path(prepared.artifact),
        reference=Path(prepared.reference),
        device=device_of(BACKENDS.get(backend.name), dict(backend.options)),
        seed=measure.seed,
        warmup_seconds=measure.warmup_seconds,
        target_ci=measure.target_ci,
        max_seconds=measure.max_seconds,
        sensors=measure.sensors,
    )
    outcome = launch(side, request, prepared.case.threads, measure.timeout_seconds)
    result = outcome.checked(job)
    if result is None:
        return Unmeasured("arm_ended", f"{outcome.status}: {outcome.reason}")
    return _Answered(result, outcome.notes)


def _change(
    case: str, rule: MeasuredRule, limit: float, results: _Results
) -> MeasuredChange | Unmeasured:
    values: dict[str, tuple[float, ...]] = {}
    for side, of_side in results.items():
        numbers = [answered.number(rule) for answered in of_side[: rule.launches]]
        if None in numbers:
            return Unmeasured("arm_ended", f"a launch of the {side} does not report {rule.name}")
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
    """The verdict on a case with its measured rules: growth beyond a limit is a regression."""
    for change in changes:
        if change.case == verdict.case and change.blocked:
            sentence = f"{change.sentence}; {verdict.sentence}"
            reason = verdict.reason if verdict.verdict is Verdict.SLOWER else change.reason
            verdict = replace(verdict, verdict=Verdict.SLOWER, reason=reason, sentence=sentence)
    return verdict
