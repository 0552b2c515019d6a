"""The form of ``run.json``, by which an untrusted run is checked.

Every value that a table, figure, report or verdict reads has its type and bounds here. A missing
value becomes an empty text, an empty list or None. Unknown keys are kept unchanged. Launches are
checked in ``store/launch.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from cspbench.core.bounds import Amount, AtMost, Checked, Count, Number, Seconds, checked
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.jobs.ceilings import Ceilings
from cspbench.store.launch import check_case_id
from cspbench.store.lines import MAX_CASES
from cspbench.store.migrate import split_gpu
from cspbench.suite.suite import SETTINGS, Measure, check_label

Json = dict[str, Any]

#: Bounds of the parts of a run: each becomes an object, or a row of a table.
MAX_MODELS = 10_000
MAX_BOARDS = 5_000
MAX_LIBRARIES = 2_000

#: Reports are named after runs.
FileName: TypeAlias = Annotated[str, Field(max_length=255, pattern=r"^[^/\x00-\x1f\x7f-\x9f]*$")]
CaseText: TypeAlias = Annotated[str, Field(max_length=2000), Checked(check_case_id)]


def _board_label(text: str) -> str:
    try:
        return check_label(text)
    except InputError as error:
        raise ValueError(str(error)) from None


#: Name or label of a board. It is part of ids and names of runs.
BoardLabel: TypeAlias = Annotated[str, Checked(_board_label)]


class _Part(BaseModel):
    # Only the outermost models need validators of their own.
    model_config = ConfigDict(extra="allow", use_enum_values=True, defer_build=True)


def _stored_measure() -> Any:
    """The settings of `Measure` by their own names; a missing setting stays missing."""
    types = get_type_hints(Measure)
    settings: dict[str, Any] = {"extras": (list[str], [])}
    for item in SETTINGS.values():
        kind = types[item.name]
        bounds: dict[str, Any] = (
            {} if item.name == "rounds" else {"default": item.default}
        )  # a run has its rounds
        if kind in (float, float | None):  # stored runs outlive changes of the bounds in suites
            kind = Seconds if kind is float else Seconds | None
        else:
            bounds |= item.metadata["bounds"]
        settings[item.name] = (kind, Field(**bounds))
    return create_model("Measure", __base__=_Part, **settings)


_Measure: Any = _stored_measure()


class _Suite(_Part):
    name: str = ""
    description: str = ""
    path: str | None = None
    digest: str = ""
    notes: list[str] = []
    overrides: list[str] = []
    labels: dict[str, str] = {}
    measure: _Measure


class _Case(_Part):
    id: CaseText
    key: str = ""
    status: Status | None = None
    reason: str = ""


def _different(cases: list[_Case]) -> list[_Case]:
    """Refuse equal ids: each would be a row with all launches of the others."""
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise ValueError(f"{case.id!r} occurs twice")
        seen.add(case.id)
    return cases


class _Environment(_Part):
    """Facts of the machine; an unknown one is None."""

    cpu: str | None = None
    cpu_flags: list[str] | None = None
    cores_logical: Count | None = None
    cores_usable: Count | None = None
    cpu_quota: Amount | None = None
    governor: str | None = None
    gpu: str | None = None
    gpu_uuid: str | None = None
    gpu_power_limit_w: Amount | None = None
    gpu_clock_mhz: Count | None = None
    gpu_ecc: bool | None = None
    gpu_mig: bool | None = None
    gpu_persistence: bool | None = None
    gpu_settings: dict[str, str] | None = None
    memory_bytes: Count | None = None
    os: str | None = None
    kernel: str | None = None
    machine: str | None = None
    virtualised: bool | None = None
    host: str | None = None
    python: str | None = None
    libraries: Annotated[dict[str, str], AtMost(MAX_LIBRARIES)] | None = None
    library_digests: Annotated[dict[str, str], AtMost(MAX_LIBRARIES)] | None = None
    git_commit: str | None = None
    board: str | None = None
    l4t: str | None = None
    nvpmodel: str | None = None
    jetson_clocks: bool | None = None
    nvidia_driver: str | None = None
    boards: list[str] | None = None

    _gpu_apart = model_validator(mode="before")(split_gpu)


class _Analysis(_Part):
    """Totals of a model's analysis; ``rundir.check_analyses`` checks its layers."""

    totals: dict[str, Number | None] = {}
    places: dict[str, str] = {}


class _Board(_Part):
    """A board of a fleet: labels, facts of the machine, ceilings by device and threads."""

    labels: list[BoardLabel] = []
    environment: _Environment = _Environment()
    ceilings: Annotated[dict[str, Ceilings], AtMost(MAX_BOARDS)] = {}


class _Fleet(_Part):
    """Boards by name, and by case the name of its board (key ``seats``).

    ``references`` are the cases that ratios are relative to by board, if there are several boards.
    """

    boards: Annotated[dict[BoardLabel, _Board], AtMost(MAX_BOARDS)] = {}
    seats: dict[str, BoardLabel] = {}
    references: Annotated[dict[BoardLabel, CaseText], AtMost(MAX_BOARDS)] = {}


class Meta(_Part):
    """``run.json``."""

    format: int
    run: FileName = ""
    created: str = ""
    cspbench: str = ""
    suite: _Suite
    cases: Annotated[list[_Case], Checked(_different), AtMost(MAX_CASES)]
    environment: _Environment = _Environment()
    analyses: Annotated[dict[str, _Analysis], AtMost(MAX_MODELS)] = {}
    ceilings: Annotated[dict[str, Ceilings], AtMost(MAX_BOARDS)] = {}
    rounds_in_budget: Count | None = None
    reference: CaseText | None = None
    fleet: _Fleet | None = None


def check_meta(data: object) -> Json:
    """Return the checked ``run.json``, with defaults for missing values.

    Raises:
        ValueError: it is malformed; the phrase says where.
    """
    meta = checked(Meta.model_validate, data)
    # Analyses are most of the data: dumping the models of their layers would copy them.
    analyses = {model: dict(analysis) for model, analysis in meta.analyses.items()}
    content = {**meta.model_dump(exclude={"analyses"}), "analyses": analyses}
    content["suite"]["measure"] = meta.suite.measure.model_dump(exclude_unset=True)
    assert isinstance(data, dict)
    # Facts that this machine, board or version did not record stay missing.
    content["environment"] = _recorded(content["environment"], data.get("environment", {}))
    return _recorded(content, data)


def check_environment(data: object) -> Json:
    """Return the known facts of a machine that announces itself.

    Raises:
        ValueError: a fact is malformed; the phrase says where.
    """
    facts = checked(_Environment.model_validate, data)
    return _recorded(facts.model_dump(include=set(_Environment.model_fields)), dict(data))  # type: ignore[call-overload]


def _recorded(content: Json, data: Json) -> Json:
    """Drop keys that ``data`` lacks and that have no default but None."""
    return {key: value for key, value in content.items() if value is not None or key in data}
