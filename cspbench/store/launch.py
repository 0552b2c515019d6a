"""A stored launch: an envelope that only the runner writes, around a typed result."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from cspbench.core.bounds import MOST, Amount, Checked, FirstWrong, Number, Within, checked, short
from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.jobs.spec import ENVELOPE, JOBS, Json, to_plain


def check_case_id(text: str) -> str:
    """Return the text if it is the id of a case; raise ValueError otherwise."""
    try:
        Case.parse(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return text


def _durations(state: Json) -> Json:
    for name in ("cooled_seconds", "window_s"):
        value = state.get(name, 0)
        if not isinstance(value, int | float) or not 0 <= value <= MOST:
            raise ValueError(f"{name} is no duration")
    return state


#: Fields of the envelope that the executor, not the runner, fills.
NOTES = frozenset({
    "sensors", "energy", "memory_bound", "device_room", "board", "launch", "board_state",
})  # fmt: skip


@dataclass(frozen=True)
class Energy:
    """Power during sampling and energy per inference; see ``machine/sensors/summary.py``.

    The source is renewed every ``period_s`` seconds; it was read for ``window_s`` seconds.
    """

    energy_per_inference_j: Number
    power_w: Number
    idle_power_w: Number | None = None
    energy_method: str = ""
    period_s: Amount | None = None
    window_s: Amount | None = None


@dataclass(frozen=True)
class Launch:
    """One fresh process that did one job.

    ``result`` has the type of the job's kind; it is None if the launch was not good or its kind is
    not registered here. ``board`` and ``launch`` are the board of a fleet and the launch's id
    there. ``device_room`` says whether what fits into a device's memory was ``estimated`` before a
    block on it, or ``unknown``. ``sensors`` and ``energy`` summarise the sensors' readings during
    sampling. ``final`` says that the session did not try the case again, because its machine is
    lost for good.
    """

    case: Annotated[str, Checked(check_case_id)]
    job: Annotated[str, Checked(short)]
    number: Annotated[int, Within(0, 10**9)]
    session: str
    status: Status
    ended: str = ""
    reason: str = ""
    flags: Annotated[list[str], FirstWrong()] = field(default_factory=list)
    seconds: Amount = 0.0
    log: str = ""
    board: str | None = None
    launch: str | None = None
    board_state: Annotated[Json, Checked(_durations)] | None = None
    memory_bound: str | None = None
    device_room: str | None = None
    sensors: dict[str, Annotated[Json, Checked(_durations)]] | None = None
    energy: Energy | None = None
    final: bool = False
    result: Any = None

    @property
    def good(self) -> bool:
        """True if the job succeeded."""
        return self.status is Status.OK

    def to_json(self) -> Json:
        """One flat object: the envelope, then the fields of the result; None is left out."""
        return self.envelope() | ({} if self.result is None else to_plain(self.result))

    def envelope(self) -> Json:
        """The fields of every kind of launch."""
        envelope = to_plain(replace(self, result=None))
        envelope["status"] = self.status.value
        for name in ("log", "final"):
            if not envelope[name]:
                del envelope[name]
        return envelope


assert {item.name for item in fields(Launch)} - {"result"} == ENVELOPE


@functools.cache
def _envelope() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Launch)


def _read_envelope(data: Mapping[str, Any]) -> Launch:
    launch: Launch = checked(_envelope().validate_python, {**data, "result": None})
    return launch


def read_launch(data: object) -> Launch:
    """Check a stored launch, which may come from an untrusted run.

    Raises:
        ValueError: the launch is malformed; the phrase says where.
    """
    if not isinstance(data, Mapping):
        raise ValueError("it is not an object")
    launch = _read_envelope(data)
    if launch.good and launch.job in JOBS:
        # Not dataclasses.replace: a thousand launches would be built twice.
        object.__setattr__(launch, "result", JOBS.get(launch.job).read(data))
    return launch


def with_notes(launch: Launch, notes: Mapping[str, Any]) -> Launch:
    """The launch with its executor's notes; only NOTES are accepted, as a board may send others.

    ``board`` and ``launch`` are always the controller's own, so malformed notes cost the others.
    """
    known = {name: value for name, value in notes.items() if name in NOTES}
    if not known:
        return launch
    try:
        # The result was checked already, and may hold hundreds of numbers.
        return replace(_read_envelope({**launch.envelope(), **known}), result=launch.result)
    except ValueError as error:
        reason = f"the notes on the launch are malformed: {error}"
        failed = replace(launch, status=Status.FAILED, reason=reason, result=None)
        return replace(failed, board=known.get("board"), launch=known.get("launch"))


def counted(launches: Iterable[Launch], job: str) -> list[Launch]:
    """The good launches of a job."""
    return [launch for launch in launches if launch.job == job and launch.good]
