"""One controller at work on one run directory: prepare, launch in rounds, store each launch."""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from cspbench.analysis.api import cached_analysis
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.backends.spec import BACKENDS, Compiles, device_of
from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.runner.executor import Executor, Job
from cspbench.runner.plan import Plan, PlannedCase
from cspbench.runner.process import Outcome
from cspbench.runner.rounds import Rounds
from cspbench.store.ceilings import Ceilings, keep_ceilings, known_ceilings
from cspbench.store.records import EXTRA_JOBS, MAX_LOST, is_disturbed
from cspbench.store.rundir import RunDirectory, read_run

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


class Session:
    """One controller at work on one run directory."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        executor: Executor,
        progress: Progress,
        meta: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._measure = plan.suite.measure
        self._directory = directory
        self._meta = read_run(directory.path).meta if meta is None else meta
        self._executor = executor
        self._progress = progress
        self._name = uuid.uuid4().hex[:8]
        self._numbers: Counter[str] = Counter()  # next launch number of a case
        self._timed: Counter[str] = Counter()  # good timing launches of a case
        self._extras: dict[str, set[str]] = {  # kind of launch -> cases that had theirs
            kind: set()
            for kind in ("memory", "layers", "throughput")
            if getattr(self._measure, kind)
        }
        self._compiled: set[str] = set()
        self._refused: set[str] = set()
        self._last: dict[str, Any] = {}
        self._clock = clock
        self._begun = clock()
        self._meta.pop("rounds_in_budget", None)  # a budget is a session's

    def run(self, before: Sequence[dict[str, Any]]) -> None:
        """Launch what ``before`` does not hold yet."""
        self.recall(before)
        self.measure(self.prepare())

    def recall(self, before: Iterable[dict[str, Any]]) -> None:
        """Count launches that are on disk already."""
        for launch in before:
            # Not a count: a damaged line of the file leaves a gap.
            number = max(self._numbers[launch["case"]], int(launch["number"]) + 1)
            self._numbers[launch["case"]] = number
            self._remember(launch)

    def prepare(self) -> list[PlannedCase]:
        """Make what artifacts and analyses are missing; return the cases still to be launched."""
        wanted = [
            planned
            for planned in self._plan.runnable
            if planned.id not in self._refused
            and (self._timed[planned.id] < self._measure.rounds or self._extras_left([planned.id]))
        ]
        return self._prepare(wanted)

    def measure(self, ready: Sequence[PlannedCase]) -> None:
        """Launch what is missing of these cases."""
        cases = {planned.id: planned for planned in self._compile(ready)}
        self._look_for_ceilings(cases.values())
        self._time(cases)
        for kind in self._extras:
            for case_id in [case_id for case_id in cases if self._wants(kind, case_id)]:
                self._launch_again(cases[case_id], kind, lambda: self._extras_left(cases))

    def _remember(self, launch: dict[str, Any]) -> None:
        """Count what a launch settles for its case."""
        case_id, status = launch["case"], Status(launch["status"])
        if status is Status.LOST:
            pass  # it settles nothing
        elif launch["job"] in EXTRA_JOBS:
            self._extras.get(launch["job"], set()).add(case_id)
        elif launch["job"] == "compile" and status is Status.OK:
            self._compiled.add(case_id)
        elif status is Status.OK:
            self._timed[case_id] += 1
        elif status in NOT_RUNNABLE:
            self._refused.add(case_id)  # asking again gives the same answer

    def _wants(self, kind: str, case_id: str) -> bool:
        return case_id not in self._extras[kind] | self._refused

    def _extras_left(self, case_ids: Iterable[str]) -> int:
        case_ids = list(case_ids)
        return sum(self._wants(kind, case_id) for kind in self._extras for case_id in case_ids)

    def _compile(self, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
        """Fill the caches of backends that compile, each in a launch that is timed on its own."""
        ready = []
        for planned in cases:
            backend = BACKENDS.get(planned.case.backend.name)
            if (
                isinstance(backend, Compiles)
                and planned.id not in self._compiled
                and backend.compiles(dict(planned.case.backend.options))
            ):
                outcome = self._launch_again(planned, "compile", lambda: 0)
                if outcome.status is not Status.OK:
                    continue
            ready.append(planned)
        return ready

    def _time(self, cases: Mapping[str, PlannedCase]) -> None:
        """Launch in rounds until every case has its launches, or has failed for good."""
        measure = self._measure
        first = self._clock()
        launched = 0

        def out_of_time() -> bool:
            """Whether the launches that look at something else than time would be late."""
            if measure.budget_seconds is None:
                return False
            now = self._clock()
            reserve = self._extras_left(cases) * (now - first) / max(launched, 1)
            return now - self._begun + reserve > measure.budget_seconds

        rounds = Rounds(list(cases), measure.rounds, measure.seed, self._timed, out_of_time)
        left = rounds.remaining().total() + self._extras_left(cases)
        self._progress.started(self._plan, left)
        for case_id in rounds:
            outcome = self._launch(cases[case_id], "time")
            launched += 1
            rounds.report(
                case_id,
                good=outcome.status is Status.OK,
                final=outcome.status in NOT_RUNNABLE or _for_good(outcome),
                lost=outcome.status is Status.LOST,
                disturbed=is_disturbed(outcome.answer),
            )
            left = rounds.remaining().total() + self._extras_left(cases)
            self._progress.launched(self._last, left)
        if rounds.rounds < measure.rounds:
            known = self._meta.get("rounds_in_budget", rounds.rounds)
            self._meta["rounds_in_budget"] = min(known, rounds.rounds)  # boards share it
            self._directory.write_meta(self._meta)
        # What could not be timed is not worth a look at its memory or its layers.
        for done in self._extras.values():
            done |= {case_id for case_id in cases if not self._timed[case_id]}

    def _look_for_ceilings(self, cases: Iterable[PlannedCase]) -> None:
        """Note the devices' ceilings; measure them where the suite asks and nobody has yet."""
        noted = self._meta.setdefault("ceilings", {})
        for device, threads in devices_of(cases):
            known = known_ceilings(device, threads)
            if known is None and self._measure.ceilings:
                self._progress.preparing(f"ceilings of {device}", 0, 1)
                known = self._measure_ceilings(device, threads)
                if known is not None:
                    keep_ceilings(device, known)
            if known is not None:
                noted[f"{device}/t{threads}"] = asdict(known)
        self._directory.write_meta(self._meta)

    def _measure_ceilings(self, device: str, threads: int) -> Ceilings | None:
        """None if they cannot be had: then there is no roofline, and no harm."""
        job = {"job": "ceilings", "device": device, "threads": threads}
        outcome = self._executor.launch(job, threads, self._measure.timeout_seconds)
        return Ceilings(**outcome.answer["ceilings"]) if outcome.status is Status.OK else None

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
                self._store(planned.id, "prepare", problems[planned.artifact.key])
                self._progress.launched(self._last, 0)
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

    def _launch_again(self, planned: PlannedCase, kind: str, left: Callable[[], int]) -> Outcome:
        """Launch once; again, within bounds, while the machine is lost with it."""
        for _ in range(MAX_LOST):
            outcome = self._launch(planned, kind)
            self._progress.launched(self._last, left())
            if outcome.status is not Status.LOST or _for_good(outcome):
                break
        return outcome

    def _launch(self, planned: PlannedCase, kind: str) -> Outcome:
        """Do one job in a process of its own, and store how it ended."""
        self._progress.launching(planned.id)
        job = {
            "job": kind,
            "case": planned.id,
            "device": _device(planned),
            "artifact": str(planned.artifact.path),
            "reference": str(planned.artifact.reference),
            "seed": self._measure.seed,
            "warmup_seconds": self._measure.warmup_seconds,
            "target_ci": self._measure.target_ci,
            "max_seconds": self._measure.max_seconds,
            "sensors": self._measure.sensors,
        }
        outcome = self._executor.launch(job, planned.case.threads, self._measure.timeout_seconds)
        self._store(planned.id, kind, outcome)
        return outcome

    def _store(self, case_id: str, job: str, outcome: Outcome) -> None:
        """Put a launch on disk; on return it is there."""
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
        self._remember(launch)
        self._last = launch


def devices_of(cases: Iterable[PlannedCase]) -> list[tuple[str, int]]:
    """Devices that cases run on, with their threads; each once, in order."""
    return sorted({(_device(planned), planned.case.threads) for planned in cases})


def _device(planned: PlannedCase) -> str:
    backend = planned.case.backend
    return device_of(BACKENDS.get(backend.name), dict(backend.options))


def _for_good(outcome: Outcome) -> bool:
    """True if a launch was lost because there is no machine left to repeat it on."""
    return outcome.status is Status.LOST and bool(outcome.answer.get("no_board"))
