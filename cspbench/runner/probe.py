"""What the engines themselves say of a plan: models of files are loaded and run once by each.

Which operators an engine has, only its loader tells.
"""

from __future__ import annotations

from dataclasses import replace

from cspbench.core.statuses import NOT_RUNNABLE
from cspbench.jobs.probe import ProbeRequest
from cspbench.models.build import split_source
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.plan import Plan, PlannedCase
from cspbench.runner.prepare import prepare
from cspbench.runner.process import Outcome

#: Of a phase of a probe.
TIMEOUT_SECONDS = 120.0


def probed(plan: Plan, executor: Executor | None = None) -> Plan:
    """The plan with what loaders say of models that backends read as they are.

    Args:
        plan: a plan of this machine.
        executor: where to load; this machine by default.
    """
    asked = [planned for planned in plan.runnable if _is_read_as_it_is(planned)]
    if not asked:
        return plan
    executor = executor or LocalExecutor()
    artifacts = {planned.artifact.key: planned.artifact for planned in asked}
    seed = plan.suite.measure.seed
    known = dict(prepare((), artifacts.values(), executor, seed).problems)
    outcomes: dict[tuple[str, str], Outcome] = {}
    for planned in asked:
        key = planned.artifact.key
        place = key, str(planned.case.backend)
        if key not in known and place not in outcomes:
            request = ProbeRequest(
                planned.case, planned.artifact.path, planned.artifact.reference, seed=seed
            )
            outcomes[place] = executor.launch(request, planned.case.threads, TIMEOUT_SECONDS)
    return replace(plan, cases=tuple(_told(planned, known, outcomes) for planned in plan.cases))


def _is_read_as_it_is(planned: PlannedCase) -> bool:
    source = split_source(planned.case.model.name)
    return source is not None and source[0].artifact is not None


def _told(
    planned: PlannedCase, known: dict[str, Outcome], outcomes: dict[tuple[str, str], Outcome]
) -> PlannedCase:
    """The case with the status that its loader gives it, if that rules it out."""
    if planned.status is not None:
        return planned
    key = planned.artifact.key
    outcome = known.get(key) or outcomes.get((key, str(planned.case.backend)))
    if outcome is None or outcome.status not in NOT_RUNNABLE:
        return planned
    return replace(planned, status=outcome.status, reason=outcome.reason)
