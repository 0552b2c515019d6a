"""Prepare one side of a gate: cases, artifacts and analyses, as the side's own files define them.

All of it happens while the side's folder is the working directory, because sources name files
relative to it; what comes out holds absolute paths only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cspbench.analysis.record import Analysis
from cspbench.core.case import Case, ModelId, Ref
from cspbench.core.files import file_digest
from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.runner.executor import Executor
from cspbench.runner.plan import Plan, PlannedCase
from cspbench.runner.prepare import prepare


@dataclass(frozen=True)
class Prepared:
    """One case of one side, ready to be held by a worker.

    ``status`` is None if it can be tried; else ``reason`` says why not. ``digest`` is the SHA-256
    of the artifact, by which sides that would run the same bytes are told.
    """

    case: Case
    artifact: str = ""
    reference: str = ""
    digest: str = ""
    analysis: Analysis | None = None
    status: Status | None = None
    reason: str = ""

    @property
    def id(self) -> str:
        """The case's id on its side."""
        return self.case.id


def prepare_cases(plan: Plan, executor: Executor, *, elsewhere: bool = False) -> list[Prepared]:
    """Export what is missing, analyse, and find out what cannot be had.

    Args:
        plan: the side's cases.
        executor: where to export; not timed.
        elsewhere: the side runs in another environment, so that what this one lacks says nothing.
    """
    wanted = [planned for planned in plan.cases if planned.status is None or elsewhere]
    found = prepare(
        [str(planned.case.model_id) for planned in plan.cases],
        [planned.artifact for planned in wanted],
        executor,
        plan.suite.measure.seed,
    )
    # The side's environment may lack a metric that is registered here.
    analyses = {
        model: Analysis.from_dict(data).complete() for model, data in found.analyses.items()
    }
    prepared = []
    for planned in plan.cases:
        analysis = analyses.get(str(planned.case.model_id))
        problem = found.problems.get(planned.artifact.key)
        if planned.status is not None and not elsewhere:
            status, reason = planned.status, planned.reason
        elif problem is not None:
            status, reason = problem.status, problem.reason
        else:
            prepared.append(_ready(planned, analysis))
            continue
        prepared.append(Prepared(planned.case, analysis=analysis, status=status, reason=reason))
    return prepared


def _ready(planned: PlannedCase, analysis: Analysis | None) -> Prepared:
    path = Path(planned.artifact.path).resolve()
    return Prepared(
        planned.case,
        artifact=str(path),
        reference=str(Path(planned.artifact.reference).resolve()),
        digest=file_digest(path),
        analysis=analysis,
    )


def pair_key(case: Case, loose: frozenset[str]) -> str:
    """What a case shares with its partner on the other side: its id without the ``loose`` axes."""
    short = {name.removeprefix("csp.") for name in loose} | loose

    def trim(ref: Ref | None, what: str) -> Ref | None:
        if ref is None or what in loose:
            return None
        return Ref(ref.name, tuple((k, v) for k, v in ref.options if k not in short))

    model = trim(case.model, "model") or Ref("*")
    backend = trim(case.backend, "backend") or Ref("*")
    size = None if "input" in loose else case.input
    batch = 0 if "batch" in loose else case.batch
    threads = 0 if "threads" in loose else case.threads
    neck = None if "model" in loose else trim(case.neck, "neck")
    return f"{ModelId(model, neck, size)}/{backend}/b{batch}/t{threads}"


@dataclass(frozen=True)
class Pair:
    """The same case on both sides; ``name`` is how the gate calls it."""

    name: str
    base: Prepared
    head: Prepared


def pair_cases(
    base: Sequence[Prepared], head: Sequence[Prepared], loose: frozenset[str]
) -> tuple[list[Pair], list[str]]:
    """Match the cases of two sides.

    Args:
        base: cases of the base.
        head: cases of the head.
        loose: axes that either side sets, which therefore may differ.

    Returns:
        The pairs in the head's order, and a note for each case without a partner.
    """
    if loose and len(base) == len(head) == 1:
        return [Pair(_name(base[0], head[0], loose), base[0], head[0])], []
    partners = _by_key(base, loose)
    pairs, notes = [], []
    for key, case in _by_key(head, loose).items():
        partner = partners.pop(key, None)
        if partner is None:
            notes.append(f"{case.id} is only on the head's side: not compared")
        else:
            pairs.append(Pair(_name(partner, case, loose), partner, case))
    notes += [f"{case.id} is only on the base's side: not compared" for case in partners.values()]
    return pairs, notes


def _by_key(cases: Sequence[Prepared], loose: frozenset[str]) -> dict[str, Prepared]:
    """Cases by what they share; several of one key are told apart by their order."""
    found: dict[str, Prepared] = {}
    for case in cases:
        key = pair_key(case.case, loose)
        number = 1
        while (unique := f"{key} {number}") in found:
            number += 1
        found[unique] = case
    return found


def _name(base: Prepared, head: Prepared, loose: frozenset[str]) -> str:
    """The common id; where a side sets an option, the id without it; else both ids."""
    if base.id == head.id:
        return head.id
    common = pair_key(head.case, loose)
    whole = not loose & {"model", "neck", "input", "backend", "batch", "threads"}
    return common if whole and common == pair_key(base.case, loose) else f"{base.id} -> {head.id}"


def runnable(pair: Pair) -> bool:
    """True if both sides can be tried."""
    return pair.base.status is None and pair.head.status is None


def not_here(pair: Pair) -> bool:
    """True if neither side can run here, which is an answer and no failure."""
    return {pair.base.status, pair.head.status} <= NOT_RUNNABLE
