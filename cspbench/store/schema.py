"""What a stored run must look like: a run may come from a stranger, and is only data.

Everything that any table, figure, report or verdict reads has its type here, with its bounds; what
is missing gets a value that says so (an empty text, an empty list, None). More keys than these are
kept as they are. Launches are checked in ``store/launch.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from cspbench.core.bounds import Amount, Checked, Count, Number, Seconds, checked
from cspbench.core.statuses import Status
from cspbench.jobs.ceilings import Ceilings
from cspbench.store.launch import check_case_id

Json = dict[str, Any]

#: Reports are named after runs.
FileName: TypeAlias = Annotated[str, Field(max_length=255, pattern=r"^[^/\x00-\x1f\x7f-\x9f]*$")]
CaseText: TypeAlias = Annotated[str, Field(max_length=2000), Checked(check_case_id)]


class _Part(BaseModel):
    # Only the outermost models need validators of their own.
    model_config = ConfigDict(extra="allow", use_enum_values=True, defer_build=True)


class _Measure(_Part):
    """The settings of ``suite.case.Measure``; one that is missing stays missing."""

    rounds: Annotated[int, Field(ge=1, le=100_000)]
    warmup_seconds: Seconds = 0.0
    target_ci: Amount = 0.0
    max_seconds: Seconds = 0.0
    budget_seconds: Seconds | None = None
    timeout_seconds: Seconds = 0.0
    memory: bool = False
    ceilings: bool = False
    layers: bool = False
    throughput: bool = False
    sensors: str = ""
    extras: list[str] = []
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class _Suite(_Part):
    name: str = ""
    description: str = ""
    path: str | None = None
    digest: str = ""
    notes: list[str] = []
    overrides: list[str] = []
    measure: _Measure


class _Case(_Part):
    id: CaseText
    key: str = ""
    status: Status | None = None
    reason: str = ""


class _Environment(_Part):
    """Facts of the machine; an unknown one is None."""

    cpu: str | None = None
    cpu_flags: list[str] | None = None
    cores_logical: Count | None = None
    cores_usable: Count | None = None
    cpu_quota: Amount | None = None
    governor: str | None = None
    gpu: str | None = None
    memory_bytes: Count | None = None
    os: str | None = None
    kernel: str | None = None
    machine: str | None = None
    virtualised: bool | None = None
    host: str | None = None
    python: str | None = None
    libraries: dict[str, str] | None = None
    git_commit: str | None = None
    board: str | None = None
    l4t: str | None = None
    nvidia_driver: str | None = None
    boards: list[str] | None = None


class _Analysis(_Part):
    """Of a model: what is summed up; ``rundir.check_analyses`` looks at its layers."""

    totals: dict[str, Number | None] = {}
    places: dict[str, str] = {}


class _Board(_Part):
    """A board of a fleet: what it is called, what it is, and what it can do at best."""

    labels: list[str] = []
    environment: _Environment = _Environment()
    ceilings: dict[str, Ceilings] = {}


class _Fleet(_Part):
    """Boards by name, and the board that each case sits on."""

    boards: dict[str, _Board] = {}
    seats: dict[str, str] = {}


class Meta(_Part):
    """``run.json``."""

    format: int
    run: FileName = ""
    created: str = ""
    cspbench: str = ""
    suite: _Suite
    cases: list[_Case]
    environment: _Environment = _Environment()
    analyses: dict[str, _Analysis] = {}
    ceilings: dict[str, Ceilings] = {}
    rounds_in_budget: Count | None = None
    fleet: _Fleet | None = None


def check_meta(data: object) -> Json:
    """Return ``run.json`` as checked, with what was missing.

    Raises:
        ValueError: what is wrong with it, in a phrase.
    """
    meta = checked(Meta.model_validate, data)
    # Layers, and below the samples, are nearly all of a run: they are not dumped, which would copy.
    analyses = {model: dict(analysis) for model, analysis in meta.analyses.items()}
    found = {**meta.model_dump(exclude={"analyses"}), "analyses": analyses}
    found["suite"]["measure"] = meta.suite.measure.model_dump(exclude_unset=True)
    assert isinstance(data, dict)
    # Facts of other machines, boards and versions are not asked for.
    found["environment"] = _known(found["environment"], data.get("environment", {}))
    return _known(found, data)


def _known(found: Json, data: Json) -> Json:
    """Without what is not there and has no value that says so."""
    return {key: value for key, value in found.items() if value is not None or key in data}
