"""Plan: which cases of a suite this machine can run, why not the others, how long it will take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.spec import ARTIFACTS
from cspbench.backends.precisions import unknown_precision
from cspbench.backends.spec import (
    BACKENDS,
    Backend,
    RefusesInputs,
    device_of,
    unsupported_option,
)
from cspbench.core.cache import cache_folder
from cspbench.core.case import Case
from cspbench.core.options import Options
from cspbench.core.statuses import Status
from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.jobs.spec import JOBS, Policy, kinds_with
from cspbench.machine.devices.spec import DEVICES
from cspbench.models.build import refuses_fixed, spec_of, split_source, undecided_axis
from cspbench.store.rundir import list_runs, past_seconds
from cspbench.suite.suite import Measure, Suite

#: Guess for what a launch costs beside its warm-up and sampling: start, load, first inference.
START_SECONDS = 2.0
#: How many of the newest runs are asked how long launches took.
HISTORY_RUNS = 3


@dataclass(frozen=True)
class PlannedCase:
    """A case with its availability; ``status`` is None if it can be launched."""

    case: Case
    artifact: ArtifactSpec
    status: Status | None = None
    reason: str = ""

    @property
    def id(self) -> str:
        """The case's id."""
        return self.case.id

    @property
    def key(self) -> str:
        """Hash of everything about the case that matters: its id and its artifact's content."""
        return hashlib.sha256(f"{self.id} {self.artifact.key}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """The planned cases of one suite, in suite order."""

    suite: Suite
    cases: tuple[PlannedCase, ...]

    @property
    def runnable(self) -> tuple[PlannedCase, ...]:
        """Cases that can be launched."""
        return tuple(planned for planned in self.cases if planned.status is None)


def plan_suite(suite: Suite, only: Sequence[str] = ()) -> Plan:
    """Check every case against this machine; nothing is loaded or run.

    Args:
        suite: an expanded suite.
        only: patterns of case ids to keep; all without patterns.

    Raises:
        InputError: the patterns match no case, or others may write the cache.
    """
    for name in ("artifacts", "analyses"):
        cache_folder(name)  # refused now rather than once something runs
    wanted = set(select(only, [case.id for case in suite.cases]))
    if not wanted:
        raise InputError(f"no case of {suite.name!r} matches {' or '.join(map(repr, only))}")
    reasons = {name: BACKENDS.get(name).available() for name in _backend_names(suite.cases)}
    return Plan(
        suite,
        tuple(
            plan_case(case, suite.measure.seed, reasons[case.backend.name])
            for case in suite.cases
            if case.id in wanted
        ),
    )


def _backend_names(cases: Iterable[Case]) -> set[str]:
    return {case.backend.name for case in cases}


def plan_case(case: Case, seed: int, reason: str | None) -> PlannedCase:
    """Plan one case; ``reason`` is why its backend cannot run where it is to be measured."""
    backend, options = BACKENDS.get(case.backend.name), dict(case.backend.options)
    _check_registered(backend, options)
    kind = backend.artifact
    artifact = ArtifactSpec(case.model_id, case.batch, kind, seed)
    if reason is None:
        status, why = _not_here(case, backend, options)
    else:
        status, why = Status.UNAVAILABLE, reason
    return PlannedCase(case, artifact, status, why)


def _not_here(case: Case, backend: Backend, options: Options) -> tuple[Status | None, str]:
    """Why a backend that is there cannot run a case; None and nothing if it can."""
    source = split_source(case.model.name)
    if source is not None:
        missing = source[0].available()
        if missing:
            return Status.UNAVAILABLE, missing
        if source[0].artifact not in (None, backend.artifact):
            return Status.UNSUPPORTED, f"{case.backend.name} does not read {source[0].name} files"
        refused = _refuses(case, backend)
        if refused:
            return Status.UNSUPPORTED, refused
    missing = unsupported_option(options)
    if missing is not None:
        return Status.UNAVAILABLE, missing
    unjudged = unknown_precision(backend, options)
    return (Status.UNSUPPORTED, unjudged) if unjudged is not None else (None, "")


def _refuses(case: Case, backend: Backend) -> str | None:
    """Why model and backend cannot take batch, size and inputs of the case; None if they can."""
    try:
        spec = spec_of(case.model_id)
    except InputError:  # a run is resumed and the file is gone: exporting says so
        return None
    if spec.batch not in (None, case.batch):
        return f"the batch of {spec.name} is fixed to {spec.batch}"
    refused = refuses_fixed(spec, case.input)
    if refused:
        return f"the input {refused}"
    undecided = undecided_axis(spec, dict(case.model.options))
    if undecided is not None:
        return undecided
    return backend.refuses_inputs(spec.inputs) if isinstance(backend, RefusesInputs) else None


def _check_registered(backend: Backend, options: Options) -> None:
    """Refuse a backend that names what nothing registered.

    Raises:
        InputError: it names an unknown artifact kind or device, or does not know an option.
    """
    try:
        ARTIFACTS.get(backend.artifact)
        DEVICES.get(device_of(backend, options))
    except (InputError, ValueError) as error:
        raise InputError(f"backend {backend.name!r}: {error}") from None


def applies(kind: str, case_id: str) -> bool:
    """Whether a kind of launch has anything to look at in a case."""
    ref = Case.parse(case_id).backend
    return JOBS.get(kind).applies(BACKENDS.get(ref.name), dict(ref.options))


def launch_seconds(out: Path) -> dict[str, float]:
    """Mean duration of a launch by case id, from the newest runs under ``out``."""
    seen: dict[str, list[float]] = {}
    for path in list_runs(out)[-HISTORY_RUNS:]:
        for case, seconds in past_seconds(path):
            seen.setdefault(case, []).append(seconds)
    return {case: sum(values) / len(values) for case, values in seen.items()}


def estimate_seconds(case_id: str, measure: Measure, history: dict[str, float]) -> float:
    """Expected duration of one launch: from history, else the bounds of the measurement."""
    bound = START_SECONDS + measure.warmup_seconds + measure.max_seconds
    return history.get(case_id, bound)


def case_seconds(case_id: str, measure: Measure, history: dict[str, float]) -> float:
    """Expected duration of all launches of a case: its rounds, and the extra launches."""
    extra = sum(
        START_SECONDS + measure.max_seconds * kind.sampling  # some go on for as long as a round may
        for kind in kinds_with(Policy.AFTER)
        if measure.wants(kind.setting) and applies(kind.name, case_id)
    )
    return estimate_seconds(case_id, measure, history) * measure.rounds + extra
