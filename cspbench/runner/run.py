"""Run a plan: make its run directory or find the one to resume, and set a session to work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cspbench
from cspbench.backends.spec import libraries
from cspbench.core.case import Case
from cspbench.errors import InputError, noting
from cspbench.machine.comparability import Use, refusals
from cspbench.machine.facts import fingerprint
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.plan import Plan, PlannedCase, plan_suite
from cspbench.runner.progress import Progress, Silent
from cspbench.runner.session import Session
from cspbench.store.launch import Launch
from cspbench.store.rundir import RunDirectory, StoredRun, read_run
from cspbench.suite.suite import Measure, Suite


def new_run(plan: Plan, out: Path) -> RunDirectory:
    """Make the run directory of a plan under ``out``, named by time and suite.

    Raises:
        InputError: it cannot be written.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    return RunDirectory.create(out, f"{now:%Y%m%d-%H%M%S}-{plan.suite.name}", describe(plan, now))


def resumable(path: Path, *, force: bool = False) -> tuple[Plan, StoredRun]:
    """Plan again what a stored run planned.

    Args:
        path: the run directory.
        force: go on although the models or the machine changed; the run then mixes conditions.

    Raises:
        InputError: not a run, or the models or the machine changed since it was begun.
    """
    stored = read_run(path)
    if "fleet" in stored.meta:
        raise InputError(f"{path} was measured on a fleet: resume it with --scheduler")
    plan = stored_plan(stored)
    if not force:
        changes = [*changed_cases(stored, plan), *changed_facts(stored)]
        if changes:
            raise InputError(
                f"{path} cannot be resumed: {'; '.join(changes[:3])}; start a new run, or mix "
                "conditions with --force"
            )
    return plan, stored


def execute(
    plan: Plan,
    directory: RunDirectory,
    before: Sequence[Launch] = (),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> None:
    """Launch what is missing; every launch is on disk before the next one starts.

    Args:
        plan: what to measure.
        directory: where to store it.
        before: launches that the directory holds already.
        executor: where to launch; this machine by default.
        progress: who is told.

    Raises:
        KeyboardInterrupt: the workers are ended, what was measured is on disk.
    """
    directory.begin_session()
    session = Session(plan, directory, executor or LocalExecutor(), progress or Silent())
    with noting(f"what was measured is kept in {directory.path}"):
        session.run(before)


def describe(plan: Plan, now: datetime.datetime) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    suite = plan.suite
    folder = Path(suite.path).parent if suite.path else None
    return {
        "created": now.isoformat(timespec="seconds"),
        "cspbench": cspbench.__version__,
        "suite": {
            "name": suite.name,
            "description": suite.description,
            "path": suite.path,
            "digest": suite.digest,
            "notes": list(suite.notes),
            "overrides": list(suite.overrides),
            **({"labels": dict(suite.labels)} if suite.labels else {}),
            "measure": vars(suite.measure),
        },
        "schedule": "rounds" if suite.measure.together == 1 else "interleaved",
        "reference": reference(plan),
        "cases": [_describe_case(planned) for planned in plan.cases],
        "environment": fingerprint(libraries(), folder),
        "analyses": {},
    }


def reference(plan: Plan) -> str | None:
    """The case that ratios are relative to: the suite's, or else the first, of those that run."""
    runnable = [planned.case for planned in plan.runnable]
    # A suite names it without the board that a fleet measures it on.
    named = [case for case in runnable if replace(case, board=None).id == plan.suite.reference]
    return next((case.id for case in named + runnable), None)


def _describe_case(planned: PlannedCase) -> dict[str, Any]:
    return {
        "id": planned.id,
        "key": planned.key,
        "status": planned.status.value if planned.status else None,
        "reason": planned.reason,
    }


def stored_plan(stored: StoredRun) -> Plan:
    """Plan again what a stored run planned; its ids hold the cases.

    Raises:
        InputError: it has settings that this version does not know, or a case that it cannot plan.
    """
    meta = stored.meta["suite"]
    return plan_suite(
        Suite(
            name=meta["name"],
            cases=tuple(Case.parse(case["id"]) for case in stored.meta["cases"]),
            measure=_stored_measure(stored),
            description=meta["description"],
            notes=tuple(meta["notes"]),
            digest=meta["digest"],
            path=meta["path"] or "",
            labels=tuple(meta.get("labels", {}).items()),
            overrides=tuple(meta["overrides"]),
        )
    )


def _stored_measure(stored: StoredRun) -> Measure:
    """How a stored run measures: left out, an unknown setting would change what is measured."""
    settings = stored.meta["suite"]["measure"]
    unknown = sorted(settings.keys() - {field.name for field in fields(Measure)})
    if unknown:
        name = f"measure.{unknown[0]}"
        raise InputError(
            f"{stored.path} cannot be resumed: this cspbench does not know its setting {name!r}"
        )
    # Runs from before the setting had no least duration.
    return Measure(**{"min_seconds": 0.0, **settings, "extras": tuple(settings.get("extras", ()))})


def changed_cases(stored: StoredRun, plan: Plan) -> list[str]:
    """Cases whose key, the hash of all that matters, is another one now."""
    return [
        f"the definition of {planned.id} (or torch) changed"
        for planned, case in zip(plan.cases, stored.meta["cases"], strict=True)
        if planned.key != case["key"]
    ]


def changed_facts(stored: StoredRun) -> list[str]:
    """Facts of the machine that are others now, a phrase each."""
    now = fingerprint(libraries())
    return [str(found) for found in refusals(stored.meta["environment"], now, Use.RESUME)]
