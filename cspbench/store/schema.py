"""What a stored run must look like: a run may come from a stranger, and is only data.

Everything that any table, figure, report or verdict reads has its type here, with its bounds; what
is missing gets a value that says so (an empty text, an empty list, None). More keys than these are
kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cspbench.analysis.roofline import BANDWIDTH, PRECISION
from cspbench.core.case import parse_case_id
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.store.migrate import split_gpu

Json = dict[str, Any]

#: Longer than any measurement takes (30 years), far below what a float can tell apart.
_MOST = 10**18


def _case_id(text: str) -> str:
    try:
        parse_case_id(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return text


def _all_positive(values: list[int]) -> list[int]:
    """Check all at once: a bound on each takes as long again as reading them."""
    if not 1 <= min(values) <= max(values) <= _MOST:
        raise ValueError("a latency is no time")
    return values


def _with(name: str) -> Callable[[dict[str, float]], dict[str, float]]:
    """Return a check that ceilings hold the one that predictions are made from."""

    def check(rates: dict[str, float]) -> dict[str, float]:
        if name not in rates:
            raise ValueError(f"{name} is missing")
        return rates

    return check


def _producers_exist(
    nodes: list[tuple[str, str, list[int], list[str]]],
) -> list[tuple[str, str, list[int], list[str]]]:
    """Check that what feeds a node is one of them."""
    last = max((number for _, _, producers, _ in nodes for number in producers), default=-1)
    if last >= len(nodes):
        raise ValueError("a producer is no node")
    return nodes


#: Reports are named after runs.
FileName: TypeAlias = Annotated[str, Field(max_length=255, pattern=r"^[^/\x00-\x1f\x7f-\x9f]*$")]
CaseText: TypeAlias = Annotated[str, Field(max_length=2000), AfterValidator(_case_id)]
#: Counts, bytes and nanoseconds.
Count: TypeAlias = Annotated[int, Field(ge=0, le=_MOST)]
Positive: TypeAlias = Annotated[int, Field(ge=1, le=_MOST)]
Latencies: TypeAlias = Annotated[list[int], Field(min_length=1), AfterValidator(_all_positive)]
Number: TypeAlias = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False)]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)]
#: A setting in seconds: at most eleven days, which every clock and every wait can take.
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]
#: 1e9 operations or bytes a second: what is divided by it neither vanishes nor overflows.
Rate: TypeAlias = Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]


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
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


P = TypeVar("P", bound=_Part)


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
    gpu_uuid: str | None = None
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
    nvpmodel: str | None = None
    jetson_clocks: bool | None = None
    nvidia_driver: str | None = None
    boards: list[str] | None = None

    _gpu_apart = model_validator(mode="before")(split_gpu)


class _Analysis(_Part):
    """Of a model: what is summed up; ``rundir.check_analyses`` looks at its layers."""

    totals: dict[str, Number | None] = {}
    places: dict[str, str] = {}


class _Ceilings(_Part):
    gflops: Annotated[dict[str, Rate], AfterValidator(_with(PRECISION))]
    bandwidth_gbs: Annotated[dict[str, Rate], AfterValidator(_with(BANDWIDTH))]
    cache_bandwidth_gbs: dict[str, Rate] = {}
    #: No operator is dispatched in less than a nanosecond, so no predicted time is 0.
    overhead_us: Annotated[float, Field(ge=1e-3, le=_MOST, allow_inf_nan=False)]
    working_set_bytes: Count = 0
    threads: Count = 0
    name: str | None = None


class _Board(_Part):
    """A board of a fleet: what it is called, what it is, and what it can do at best."""

    labels: list[str] = []
    environment: _Environment = _Environment()
    ceilings: dict[str, _Ceilings] = {}


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
    ceilings: dict[str, _Ceilings] = {}
    rounds_in_budget: Count | None = None
    fleet: _Fleet | None = None


class _WarmUp(_Part):
    count: Count
    steady: bool


class _Agreement(_Part):
    max_relative_error: Amount


class _Interference(_Part):
    seconds: Amount
    steal_s: Amount = 0.0
    foreign_cpu_s: Amount = 0.0
    load_1m_before: Amount
    load_1m_after: Amount
    own_cpu_s: Amount | None = None
    voluntary_switches: Count | None = None
    involuntary_switches: Count | None = None


class _Memory(_Part):
    peak_memory_bytes: Count | None = None
    loaded_bytes: Count | None = None
    retained_bytes: Count | None = None
    transient_bytes: Count | None = None
    device_peak_bytes: Count | None = None
    device_loaded_bytes: Count | None = None
    device_retained_bytes: Count | None = None
    device_transient_bytes: Count | None = None
    device_process_bytes: Count | None = None
    method: str | None = None


class _Energy(_Part):
    energy_per_inference_j: Number
    power_w: Number
    idle_power_w: Number | None = None
    energy_method: str = ""


class _LayerTimes(_Part):
    """As ``measure.layers.to_answer`` writes it."""

    entries: list[tuple[str, str, Count, list[str]]]
    nodes: Annotated[
        list[tuple[str, str, list[Count], list[str]]], AfterValidator(_producers_exist)
    ]
    total_ns: Positive


class _Throughput(_Part):
    """As ``backends.spec.Throughput`` has it."""

    inferences: Positive
    ns: Positive
    in_flight: Count = 1
    method: str = ""


class _Drift(_Part):
    """As ``measure.sampling.Drift`` has it."""

    relative: Number
    z: Number
    slow: bool


class Launch(_Part):
    """One line of ``launches.jsonl``; what a good launch of a kind must have is checked too."""

    case: CaseText
    job: Annotated[str, Field(max_length=32)]
    number: Annotated[int, Field(ge=0, le=10**9)]
    session: str
    status: Status
    ended: str = ""
    reason: str = ""
    flags: list[str] = []
    seconds: Amount = 0.0
    log: str = ""
    scope: str = "inference"
    stop: str = ""
    relative_half_width: Amount | None = None
    sample_seconds: Amount | None = None
    compile_seconds: Amount | None = None
    compile_cached: bool = False
    latencies_ns: Latencies | None = None
    load_ns: Count | None = None
    first_ns: Count | None = None
    warmup: _WarmUp | None = None
    agreement: _Agreement | None = None
    interference: _Interference | None = None
    memory: _Memory | None = None
    energy: _Energy | None = None
    layers: _LayerTimes | None = None
    throughput: _Throughput | None = None
    drift: _Drift | None = None
    device: dict[str, Amount | None] | None = None
    backend: Json = {}
    sensors: dict[str, Json] | None = None
    board: str | None = None
    launch: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Launch:
        if self.status == Status.OK.value:
            wanted = {
                "time": ("latencies_ns", "load_ns", "first_ns", "warmup", "agreement"),
                "memory": ("memory",),
                "layers": ("layers",),
                "throughput": ("throughput",),
                "compile": ("compile_seconds",),
            }.get(self.job, ())
            missing = [name for name in wanted if getattr(self, name) is None]
            if missing:
                raise ValueError(f"a good {self.job} launch has {', '.join(missing)}")
        return self


def check_meta(data: object) -> Json:
    """Return ``run.json`` as checked, with what was missing.

    Raises:
        ValueError: what is wrong with it, in a phrase.
    """
    meta = _checked(Meta, data)
    # Layers, and below the samples, are nearly all of a run: they are not dumped, which would copy.
    analyses = {model: dict(analysis) for model, analysis in meta.analyses.items()}
    found = {**meta.model_dump(exclude={"analyses"}), "analyses": analyses}
    found["suite"]["measure"] = meta.suite.measure.model_dump(exclude_unset=True)
    assert isinstance(data, dict)
    # Facts of other machines, boards and versions are not asked for.
    found["environment"] = _known(found["environment"], data.get("environment", {}))
    return _known(found, data)


def check_launch(data: object) -> Json:
    """Return a launch as checked, with what was missing.

    Raises:
        ValueError: what is wrong with it, in a phrase.
    """
    launch = _checked(Launch, data)
    found = {**launch.model_dump(exclude={"latencies_ns"}), "latencies_ns": launch.latencies_ns}
    assert isinstance(data, dict)
    return _known(found, data)


def _checked(model: type[P], data: object) -> P:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def _known(found: Json, data: Json) -> Json:
    """Without what is not there and has no value that says so."""
    return {key: value for key, value in found.items() if value is not None or key in data}
