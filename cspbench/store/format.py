"""What a stored run must look like: a run may come from a stranger, and is only data.

Checked when read; more keys than these are kept as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from cspbench.errors import InputError
from cspbench.ids import parse_case_id
from cspbench.store.rundir import RUN_FILE, StoredRun, read_run
from cspbench.vocabulary import Status

Json = dict[str, Any]


def _case_id(text: str) -> str:
    try:
        parse_case_id(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return text


CaseText = Annotated[str, Field(max_length=2000), AfterValidator(_case_id)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", use_enum_values=True)


class _Measure(_Part):
    rounds: Annotated[int, Field(ge=1, le=100_000)]


class _Suite(_Part):
    name: str = ""
    measure: _Measure


class _Case(_Part):
    id: CaseText
    status: Status | None = None
    reason: str = ""


class Meta(_Part):
    """``run.json``."""

    format: int
    run: str = ""
    suite: _Suite
    cases: list[_Case]
    environment: Json = {}
    analyses: dict[str, Json] = {}


class _WarmUp(_Part):
    count: NonNegativeInt
    steady: bool


class _Agreement(_Part):
    max_relative_error: NonNegativeFloat


class Launch(_Part):
    """One line of ``launches.jsonl``; what a good launch of a kind must have is checked too."""

    case: CaseText
    job: Annotated[str, Field(max_length=32)]
    number: NonNegativeInt
    session: str
    status: Status
    reason: str = ""
    flags: list[str] = []
    seconds: NonNegativeFloat = 0.0
    latencies_ns: list[PositiveInt] | None = None
    load_ns: NonNegativeInt | None = None
    first_ns: NonNegativeInt | None = None
    warmup: _WarmUp | None = None
    agreement: _Agreement | None = None
    memory: Json | None = None

    @model_validator(mode="after")
    def _complete(self) -> Launch:
        if self.status == Status.OK.value:
            wanted = {
                "time": ("latencies_ns", "load_ns", "first_ns", "warmup", "agreement"),
                "memory": ("memory",),
            }.get(self.job, ())
            missing = [name for name in wanted if not getattr(self, name) and
                       getattr(self, name) != 0]  # fmt: skip
            if missing:
                raise ValueError(f"a good {self.job} launch has {', '.join(missing)}")
        return self


def read_checked(path: Path) -> StoredRun:
    """Read a run that may come from anybody.

    Launches that are none are left out and named in ``problems``.

    Raises:
        InputError: no run there, or ``run.json`` does not describe one.
    """
    stored = read_run(path)
    try:
        check_meta(stored.meta)
    except ValueError as error:
        raise InputError(f"{path / RUN_FILE} does not describe a run: {error}") from None
    launches = []
    for number, launch in enumerate(stored.launches):
        try:
            launches.append(check_launch(launch))
        except ValueError as error:
            stored.problems.append(f"{path}: launch {number} is none, skipped: {error}")
    return StoredRun(path, stored.meta, launches, stored.problems)


def check_meta(data: object) -> Json:
    """Return ``run.json`` as checked.

    Raises:
        ValueError: what is wrong with it, in a phrase.
    """
    return _checked(Meta, data)


def check_launch(data: object) -> Json:
    """Return a launch as checked.

    Raises:
        ValueError: what is wrong with it, in a phrase.
    """
    return _checked(Launch, data)


def _checked(model: type[_Part], data: object) -> Json:
    try:
        model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
    assert isinstance(data, dict)
    return data
