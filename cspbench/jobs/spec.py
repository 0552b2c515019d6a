"""What a launch can be for: every kind of job with its request, its result and its policy.

A file of this package (or a module of another distribution named by the entry-point group
``cspbench.jobs``) registers a kind; the runner, the store, tables and boards take it from here. A
worker may live in an environment that holds no more than its backend: this module and the kinds
import the standard library and light modules of ours; the rest is imported inside functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from cspbench.core.bounds import checked
from cspbench.core.case import Case
from cspbench.core.options import Options
from cspbench.core.registry import Registry
from cspbench.errors import CspbenchError
from cspbench.machine.devices.spec import HOST

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import Backend, Session, Workload

Json = dict[str, Any]
#: Tells the controller which phase began; it owns the time-outs.
PhaseReport = Callable[[str], None]
#: What a stored launch holds beside the result of its job. Only the runner writes it.
ENVELOPE = frozenset({
    "case", "job", "number", "session", "status", "ended", "reason", "flags", "seconds", "log",
    "board", "launch", "board_state", "memory_bound", "device_room", "sensors", "energy", "final",
})  # fmt: skip


class JobFailedError(CspbenchError):
    """A job ran, and its result cannot count (status ``failed``)."""


@dataclass(frozen=True)
class Request:
    """What a worker is asked to do; ``job`` names the kind."""

    job: ClassVar[str]

    def to_json(self) -> Json:
        """Plain values, as they travel to a worker or a board."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"job": self.job} | {
            name: str(value) if isinstance(value, Case | Path) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Any:
        """Inverse of :meth:`to_json`; keys that the request does not have are left out.

        Raises:
            TypeError: a field is missing.
        """
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})


@dataclass(frozen=True)
class CaseRequest(Request):
    """What every job on a case receives.

    ``artifact`` and ``reference`` are files of the machine that does it; ``device`` is what the
    backend runs on; ``warmup_seconds``, ``target_ci``, ``max_seconds``, ``min_seconds`` and
    ``sensors`` are the suite's (:class:`cspbench.suite.suite.Measure`).
    """

    case: Case
    artifact: Path
    reference: Path = Path()
    device: str = HOST
    seed: int = 0
    warmup_seconds: float = 0.0
    target_ci: float = 0.02
    max_seconds: float = 0.0
    min_seconds: float = 0.0
    sensors: str = "none"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Any:
        """Inverse of :meth:`Request.to_json`."""
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        known["case"] = Case.parse(known["case"])
        known |= {name: Path(known[name]) for name in ("artifact", "reference") if name in known}
        return cls(**known)

    @property
    def options(self) -> Options:
        """Of the backend."""
        return dict(self.case.backend.options)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the worker of the case needs before it starts."""
        from cspbench.backends.spec import allocator_environment

        return allocator_environment(self.options)

    @property
    def backend(self) -> Backend:
        """The backend of the case."""
        from cspbench.backends.spec import BACKENDS

        return BACKENDS.get(self.case.backend.name)

    def load(self) -> Session:
        """Load the artifact."""
        return self.backend.load(self.artifact, self.options, self.case.threads)

    def inputs(self, count: int | None = None) -> list[Feed]:
        """So many inputs, the usual pool by default: those of the case, or seeded ones.

        Raises:
            InputError: the artifact is damaged.
        """
        from cspbench.artifacts.reference import stored_feeds
        from cspbench.artifacts.spec import ARTIFACTS
        from cspbench.artifacts.tensors import POOL_SIZE, seeded_feeds
        from cspbench.models.inputs import IMAGE

        own = stored_feeds(self.reference)
        if own:
            return [own[index % len(own)] for index in range(count or POOL_SIZE)]
        stated = ARTIFACTS.get(self.backend.artifact).inputs
        inputs = stated(self.artifact) if stated else [IMAGE.at(self.case.batch, self.case.input)]
        return seeded_feeds(inputs, self.seed, count or POOL_SIZE)

    def workload(self) -> Workload:
        """What to run for ``max_seconds``."""
        from cspbench.backends.spec import Workload

        return Workload(
            self.artifact, self.options, self.case.threads, self.inputs(), self.max_seconds
        )


class Policy(Enum):
    """When a run launches a kind, and how often."""

    #: Once a round, until the case has its good launches.
    ROUNDS = "rounds"
    #: Once a case, before its first round, if ``needed`` says so; without it there are no rounds.
    BEFORE = "before"
    #: Once a case, after the rounds, if the suite's ``measure`` asks for it.
    AFTER = "after"
    #: In a block, beside the case: how it ends says nothing about the case.
    BESIDE = "beside"
    #: Not by the run itself: something else asks for it when it needs it.
    ON_DEMAND = "on demand"


Q = TypeVar("Q", bound=Request)
R = TypeVar("R")


@dataclass(frozen=True)
class JobKind(Generic[Q, R]):
    """One kind of job.

    ``request`` and ``result`` are dataclasses; ``perform`` does the job in a worker, where it is
    one job: what is measured in a block is loaded there, and takes bursts. ``setting`` is
    the key of a suite's ``measure`` that asks for it (policy AFTER). ``environment`` is what the
    worker process is given besides. ``sampling`` says that it goes on for ``max_seconds``.
    ``observed`` says that sensors are read meanwhile, ``powered`` that it is in vain without one
    that gives the device's power. ``on_board`` says that boards of a fleet do it. ``needed``
    (policy BEFORE) says whether a backend with its options wants it, ``applies`` (policy AFTER)
    whether it could give it. ``flags`` derives what may have spoilt a result, ``found`` says it in
    a few words. ``columns`` are what it brings to a run's frame of cases: name -> value, from the
    case and the newest good result.
    """

    name: str
    summary: str
    request: type[Q]
    result: type[R]
    perform: Callable[[Q, PhaseReport], R] | None = field(default=None, compare=False)
    policy: Policy = Policy.ON_DEMAND
    setting: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)
    sampling: bool = False
    observed: bool = False
    powered: bool = False
    on_board: bool = False
    needed: Callable[[Any, Options], bool] = field(default=lambda _backend, _options: False,
                                                   compare=False)  # fmt: skip
    applies: Callable[[Any, Options], bool] = field(default=lambda _backend, _options: True,
                                                    compare=False)  # fmt: skip
    flags: Callable[[R], list[str]] = field(default=lambda _result: [], compare=False)
    found: Callable[[R], str] = field(default=lambda _result: "done", compare=False)
    columns: Mapping[str, Callable[[Case, R], Any]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        clash = ENVELOPE & {item.name for item in fields(self.result)}  # type: ignore[arg-type]
        if clash:
            raise ValueError(
                f"the result of job {self.name!r} cannot hold {sorted(clash)}: the runner writes it"
            )

    def do(self, data: Mapping[str, Any], phase: PhaseReport) -> Json:
        """Do the job in this process.

        Returns:
            the result as plain values.

        Raises:
            JobFailedError: it is measured in a block.
        """
        if self.perform is None:
            raise JobFailedError(f"{self.name!r} is measured in a block, not by one job")
        return to_plain(self.perform(self.request.from_json(data), phase))

    def read(self, data: Mapping[str, Any]) -> R:
        """The typed result of an answer or a stored launch; what a kind does not know is left out.

        Raises:
            ValueError: what is wrong with it, in a phrase.
        """
        result: R = checked(_reader(self.result).validate_python, dict(data))  # type: ignore[arg-type]
        return result


#: Types of values that are kept as they are.
_PLAIN = frozenset({int, float, bool, str, type(None)})


@functools.cache
def _reader(result: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(result)


def to_plain(result: Any) -> Json:
    """A result as plain values; a field that is None was not obtained and is left out."""
    return {name: value for name, value in _plain(result).items() if value is not None}


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which visits each of a launch's thousands of numbers by itself."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        plain = _PLAIN.issuperset(map(type, value))
        return type(value)(value if plain else map(_plain, value))
    return value


JOBS: Registry[JobKind[Any, Any]] = Registry(
    "job", ("cspbench.jobs",), "cspbench.jobs", homes={"conditions": "load", "profile": "burst"}
)


def kinds_with(policy: Policy) -> list[JobKind[Any, Any]]:
    """Kinds that a run launches by this policy."""
    return [kind for kind in JOBS if kind.policy is policy]
