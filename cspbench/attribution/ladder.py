"""From A to B stage by stage: hybrids that take turns in one block, and what each step costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cspbench.attribution.pair import case_of, plan_runnable
from cspbench.core.case import Case, ModelId
from cspbench.errors import InputError
from cspbench.measure.statistics import student_bounds
from cspbench.models.ladder import Ladder, ladder_between

if TYPE_CHECKING:
    from cspbench.runner.plan import Plan
    from cspbench.views.frames import Run

STEP_COLUMNS = (
    "part", "from_a_ms", "from_b_ms", "difference_ms", "difference_ms_low", "difference_ms_high",
    "share",
)  # fmt: skip


@dataclass(frozen=True)
class StepTime:
    """What exchanging one part costs in ms: the mean of both orders, with its 95 % interval.

    ``from_a_ms`` is the step where the parts before it are exchanged already, ``from_b_ms`` where
    those behind it are: they differ where parts influence one another.
    """

    part: str
    from_a_ms: float
    from_b_ms: float
    low: float | None
    high: float | None

    @property
    def difference_ms(self) -> float:
        """Mean of both orders."""
        return (self.from_a_ms + self.from_b_ms) / 2


@dataclass(frozen=True)
class StageLadder:
    """All steps from A to B; they add up to the difference."""

    a: str
    b: str
    a_ms: float
    b_ms: float
    blocks: int
    steps: tuple[StepTime, ...]
    notes: tuple[str, ...]

    @property
    def difference_ms(self) -> float:
        """B minus A."""
        return self.b_ms - self.a_ms

    def rows(self) -> list[dict[str, Any]]:
        """One row a step."""
        return [
            {
                "part": step.part,
                "from_a_ms": step.from_a_ms,
                "from_b_ms": step.from_b_ms,
                "difference_ms": step.difference_ms,
                "difference_ms_low": step.low,
                "difference_ms_high": step.high,
                "share": step.difference_ms / self.difference_ms if self.difference_ms else None,
            }
            for step in self.steps
        ]


def plan_ladder(
    a: str, b: str, *, backend: str, batch: int, threads: int, rounds: int
) -> tuple[Plan, Ladder]:
    """Plan to measure A, B and all hybrids between them in turns.

    Raises:
        InputError: an id is wrong, the two have no stages in common, or a case cannot run here.
    """
    from cspbench.suite.suite import Measure, Suite

    ends = [case_of(text, backend, batch, threads) for text in (a, b)]
    if len({(end.input, end.backend, end.batch, end.threads) for end in ends}) > 1:
        raise InputError("A and B must have the same input, backend, batch and threads")
    size = ends[0].input
    names = [str(replace(end.model_id, input=None)) for end in ends]
    ladder = ladder_between(names[0], names[1], size)
    models = dict.fromkeys([*ladder.forward, *ladder.backward])
    cases = tuple(_with_model(ends[0], model) for model in models)
    measure = Measure(rounds=rounds, max_seconds=1.0, memory=False)
    suite = Suite("ladder", cases, measure, f"{ends[0].id} to {ends[1].id}, part by part")
    return plan_runnable(suite), ladder


def _with_model(case: Case, model: str) -> Case:
    parsed = ModelId.parse(model)
    return replace(case, model=parsed.model, neck=parsed.neck)


def ladder_times(run: Run, ladder: Ladder) -> StageLadder:
    """What each step costs, from a run of `plan_ladder`.

    Raises:
        InputError: the cases did not take turns, or one failed.
    """
    cases = {
        str(replace(Case.parse(record.case).model_id, input=None)): record for record in run.records
    }
    bad = [record for record in cases.values() if record.latency_ms is None]
    if bad:
        raise InputError(f"{bad[0].case} was not measured: {bad[0].status} {bad[0].reason}")
    first = cases[ladder.a]
    assert first.latency_ms is not None
    base = first.latency_ms.estimate
    names = [*dict.fromkeys([*ladder.forward, *ladder.backward])]
    blocks = run.in_turn.together(first.case, [cases[name].case for name in names])
    if not blocks:
        raise InputError(f"the cases of run {run.name} were not measured in the same blocks")
    by_name = [{name: base * block[cases[name].case] for name in names} for block in blocks]
    steps = []
    count = len(ladder.parts)
    for number, part in enumerate(ladder.parts):
        from_a = [_step(block, ladder.forward, number) for block in by_name]
        from_b = [_step(block, ladder.backward, count - 1 - number) for block in by_name]
        both = [(one + other) / 2 for one, other in zip(from_a, from_b, strict=True)]
        low, high = student_bounds(both)
        steps.append(StepTime(part.label, fmean(from_a), fmean(from_b), low, high))
    ends = fmean([block[ladder.b] for block in by_name])
    return StageLadder(
        first.case, cases[ladder.b].case, base, ends, len(blocks), tuple(steps), ladder.notes
    )


def _step(block: dict[str, float], rungs: Sequence[str], number: int) -> float:
    return block[rungs[number + 1]] - block[rungs[number]]


def sentences(it: StageLadder) -> list[str]:
    """The ladder in words."""
    from cspbench.attribution.text import ms, signed

    change = it.difference_ms
    word = "slower" if change > 0 else "faster"
    largest = max(it.steps, key=lambda step: abs(step.difference_ms))
    times = f"{ms(it.b_ms)} instead of {ms(it.a_ms)}"
    head = f"B ({it.b}) is {word} than A ({it.a}) by {ms(abs(change))}: {times}."
    steps = (
        "The parts were exchanged one after the other, from the first on and from the last on, in "
        f"{it.blocks} blocks. Most of the difference is {largest.part}: "
        f"{signed(largest.difference_ms)} ms."
    )
    return [head, steps, *it.notes]
