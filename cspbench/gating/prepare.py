"""Prepare one side of a gate: cases, artifacts and analyses, as the side's own files define them.

Meanwhile the side's folder is the working directory, because sources name files relative to it. The
prepared cases hold absolute paths only.
"""

from __future__ import annotations

from collections import Counter
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
    """One case of one side, ready to be loaded by a worker.

    ``status`` is None if the case can be tried; else ``reason`` says why not. ``digest`` is the
    SHA-256 of the artifact: sides with the same digest run the same bytes.
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
    """Export missing artifacts, analyse the models, and note which cases cannot run.

    Args:
        plan: the side's cases.
        executor: exports and analyses, which is not timed.
        elsewhere: the side runs in another environment, so that what is unavailable in this one may
            be available there.
    """
    runnable_cases = [planned for planned in plan.cases if planned.status is None or elsewhere]
    preparation = prepare(
        [str(planned.case.model_id) for planned in plan.cases],
        [planned.artifact for planned in runnable_cases],
        executor,
        plan.suite.measure.seed,
    )
    # The side's environment may lack a metric that is registered here.
    analyses = {
        model: Analysis.from_dict(data).complete() for model, data in preparation.analyses.items()
    }
    prepared = []
    for planned in plan.cases:
        analysis = analyses.get(str(planned.case.model_id))
        problem = preparation.problems.get(planned.artifact.key)
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
    """The id of a case without its ``loose`` axes, which its partner on the other side shares."""
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
    """The same case on both sides; ``name`` identifies it in reports."""

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
        loose: axes that a side sets and that therefore may differ.

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
    """Cases by their pair key and their number among the cases of this key."""
    by_key: dict[str, Prepared] = {}
    numbers: Counter[str] = Counter()
    for case in cases:
        key = pair_key(case.case, loose)
        numbers[key] += 1
        by_key[f"{key} {numbers[key]}"] = case
    return by_key


def _name(base: Prepared, head: Prepared, loose: frozenset[str]) -> str:
    """The common id, or the id without the options that a side sets, or both ids."""
    if base.id == head.id:
        return head.id
    common = pair_key(head.case, loose)
    whole = not loose & {"model", "neck", "input", "backend", "batch", "threads"}
    return common if whole and common == pair_key(base.case, loose) else f"{base.id} -> {head.id}"


def runnable(pair: Pair) -> bool:
    """True if both sides can be tried."""
    return pair.base.status is None and pair.head.status is None


def not_here(pair: Pair) -> bool:
    """True if neither side can run on this machine, which is an answer and no failure."""
    return {pair.base.status, pair.head.status} <= NOT_RUNNABLE
