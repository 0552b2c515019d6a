"""Run a plan: prepare artifacts, launch in rounds, store every launch as it ends."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cspbench
from cspbench.analysis.api import cached_analysis
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.backends.spec import BACKENDS
from cspbench.errors import InputError
from cspbench.runner.executor import Executor, Job, LocalExecutor
from cspbench.runner.plan import Plan, PlannedCase, case_from_id, plan_suite
from cspbench.runner.process import Outcome
from cspbench.runner.rounds import Rounds
from cspbench.store.environment import fingerprint
from cspbench.store.records import is_disturbed
from cspbench.store.rundir import RunDirectory, StoredRun, read_run
from cspbench.suite.case import Measure, Suite
from cspbench.vocabulary import NOT_RUNNABLE, Status

#: Bound of building and exporting one model.
PREPARE_TIMEOUT_SECONDS = 900.0


class Progress(Protocol):
    """Who wants to see what happens; every method may ignore it."""

    def preparing(self, model: str, done: int, total: int) -> None:
        """A model is being built and exported."""

    def started(self, plan: Plan, launches: int) -> None:
        """The launches begin."""

    def launching(self, case_id: str) -> None:
        """A launch begins."""

    def launched(self, launch: dict[str, Any], left: int) -> None:
        """A launch ended and is on disk; so many are left."""


class Silent:
    """No progress shown."""

    def preparing(self, model: str, done: int, total: int) -> None: ...

    def started(self, plan: Plan, launches: int) -> None: ...

    def launching(self, case_id: str) -> None: ...

    def launched(self, launch: dict[str, Any], left: int) -> None: ...


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
    before: Sequence[dict[str, Any]] = (),
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
    session = _Session(plan, directory, executor or LocalExecutor(), progress or Silent())
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
            "measure": vars(suite.measure),
        },
        "schedule": "rounds",
        "cases": [_describe_case(planned) for planned in plan.cases],
        "environment": fingerprint(folder),
        "analyses": {},
    }


def _describe_case(planned: PlannedCase) -> dict[str, Any]:
    return {
        "id": planned.id,
        "key": planned.key,
        "status": planned.status.value if planned.status else None,
        "reason": planned.reason,
    }


def stored_plan(stored: StoredRun) -> Plan:
    """Plan again what a stored run planned; its ids hold the cases."""
    meta = stored.meta["suite"]
    return plan_suite(
        Suite(
            name=meta["name"],
            cases=tuple(case_from_id(case["id"]) for case in stored.meta["cases"]),
            measure=Measure(**meta["measure"]),
            description=meta["description"],
            notes=tuple(meta["notes"]),
            digest=meta["digest"],
            path=meta["path"],
        )
    )


def changed_cases(stored: StoredRun, plan: Plan) -> list[str]:
    """Cases whose key, the hash of all that matters, is another one now."""
    return [
        f"the definition of {planned.id} (or torch) changed"
        for planned, case in zip(plan.cases, stored.meta["cases"], strict=True)
        if planned.key != case["key"]
    ]


def changed_facts(stored: StoredRun) -> list[str]:
    """Facts of the machine that are others now."""
    then, now = stored.meta["environment"], fingerprint()
    facts = ("host", "cpu", "cores_usable", "libraries", "nvidia_driver")
    return [
        f"{fact} was {then.get(fact)!r} and is {now[fact]!r}"
        for fact in facts
        if then.get(fact) != now[fact]
    ]


class _Session:
    """One controller at work on one run directory."""

    def __init__(
        self, plan: Plan, directory: RunDirectory, executor: Executor, progress: Progress
    ) -> None:
        self._plan = plan
        self._measure = plan.suite.measure
        self._directory = directory
        self._meta = read_run(directory.path).meta
        self._executor = executor
        self._progress = progress
        self._name = uuid.uuid4().hex[:8]
        self._numbers: Counter[str] = Counter()

    def run(self, before: Sequence[dict[str, Any]]) -> None:
        good: Counter[str] = Counter()
        answered: set[str] = set()  # asking again gives the same answer
        for launch in before:
            # Not a count: a damaged line of the file leaves a gap.
            self._numbers[launch["case"]] = max(
                self._numbers[launch["case"]], int(launch["number"]) + 1
            )
            if launch["job"] == "time" and launch["status"] == Status.OK.value:
                good[launch["case"]] += 1
            if Status(launch["status"]) in NOT_RUNNABLE:
                answered.add(launch["case"])
        wanted = [
            planned
            for planned in self._plan.runnable
            if good[planned.id] < self._measure.rounds and planned.id not in answered
        ]
        ready = self._prepare(wanted)
        cases = {planned.id: planned for planned in ready}
        rounds = Rounds(list(cases), self._measure.rounds, self._measure.seed, good)
        self._progress.started(self._plan, rounds.remaining().total())
        for case_id in rounds:
            self._progress.launching(case_id)
            outcome = self._launch(cases[case_id])
            launch = self._store(case_id, "time", outcome)
            rounds.report(
                case_id,
                good=outcome.status is Status.OK,
                final=outcome.status in NOT_RUNNABLE,
                disturbed=is_disturbed(outcome.answer),
            )
            self._progress.launched(launch, rounds.remaining().total())

    def _prepare(self, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
        """Make what artifacts and analyses are missing; return the cases that can be launched."""
        analyses = self._meta["analyses"]
        missing: dict[str, dict[str, ArtifactSpec]] = {}
        for planned in self._plan.cases:  # what cannot run here can be counted all the same
            if str(planned.case.model_id) not in analyses:
                missing.setdefault(str(planned.case.model_id), {})
        for planned in cases:
            if not planned.artifact.exists:
                specs = missing.setdefault(str(planned.case.model_id), {})
                specs[planned.artifact.key] = planned.artifact
        for model in [model for model, specs in missing.items() if not specs]:
            known = cached_analysis(model)
            if known is not None:
                analyses[model] = json.loads(known.to_json())
                del missing[model]
        problems = self._prepare_missing(missing)
        self._directory.write_meta(self._meta)
        for planned in cases:
            if planned.artifact.key in problems:
                launch = self._store(planned.id, "prepare", problems[planned.artifact.key])
                self._progress.launched(launch, 0)
        return [planned for planned in cases if planned.artifact.key not in problems]

    def _prepare_missing(self, missing: dict[str, dict[str, ArtifactSpec]]) -> dict[str, Outcome]:
        """Analyse and export; return what went wrong by artifact key."""
        jobs = [self._prepare_job(model, list(specs.values())) for model, specs in missing.items()]
        outcomes = self._executor.series(jobs, PREPARE_TIMEOUT_SECONDS)
        problems: dict[str, Outcome] = {}
        for number, job in enumerate(jobs):
            model = job["model"]
            self._progress.preparing(model, number, len(jobs))
            outcome = next(outcomes)
            if "analysis" in outcome.answer:
                self._meta["analyses"][model] = outcome.answer["analysis"]
            unsupported = outcome.answer.get("unsupported", {})
            for key in missing[model]:
                if outcome.status is not Status.OK:
                    problems[key] = outcome
                elif key in unsupported:
                    problems[key] = Outcome(Status.UNSUPPORTED, unsupported[key])
        return problems

    def _prepare_job(self, model: str, specs: Sequence[ArtifactSpec]) -> Job:
        return {
            "job": "prepare",
            "model": model,
            "seed": self._measure.seed,
            "artifacts": [
                {"batch": spec.batch, "kind": spec.kind, "key": spec.key} for spec in specs
            ],
        }

    def _launch(self, planned: PlannedCase) -> Outcome:
        job = {
            "job": "time",
            "case": planned.id,
            "device": BACKENDS.get(planned.case.backend.name).device,
            "artifact": str(planned.artifact.path),
            "reference": str(planned.artifact.reference),
            "seed": self._measure.seed,
            "warmup_seconds": self._measure.warmup_seconds,
            "target_ci": self._measure.target_ci,
            "max_seconds": self._measure.max_seconds,
        }
        return self._executor.launch(job, planned.case.threads, self._measure.timeout_seconds)

    def _store(self, case_id: str, job: str, outcome: Outcome) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc)
        launch = {
            "case": case_id,
            "job": job,
            "number": self._numbers[case_id],
            "session": self._name,
            "ended": now.isoformat(timespec="milliseconds"),
            "seconds": round(outcome.seconds, 3),
            "status": outcome.status.value,
            "reason": outcome.reason,
            **outcome.answer,
        }
        if outcome.log:
            launch["log"] = outcome.log
        self._numbers[case_id] += 1
        self._directory.append(launch)
        return launch
