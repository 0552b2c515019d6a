"""What a board says, checked on arrival as an untrusted run is.

A board announces itself and answers requests. The controller reads only these types. An
announcement that does not fit costs the board, an answer that does not fit costs the launches that
it should have brought.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from cspbench.core.bounds import Amount, AtMost, Checked, FirstWrong, Within, checked
from cspbench.core.statuses import Status
from cspbench.core.text import printable
from cspbench.errors import CspbenchError
from cspbench.fleet.protocol import Json, ProtocolError, decode
from cspbench.runner.block_request import CHECK
from cspbench.runner.process import LOG_BYTES
from cspbench.store.lines import MAX_CASES
from cspbench.store.schema import BoardLabel, check_environment

#: Longest announcement; a usual one has about 4 kB. Each board's facts are stored with the run.
MAX_ANNOUNCEMENT = 2**16
#: Longest reason; a longer one is cut.
MAX_REASON = 2000
#: Longest sentence of what a board does or waits for; a longer one is cut.
MAX_SENTENCE = 300
#: How a launch can end on a board. Whether it is lost or was interrupted the controller sees.
REPORTED = frozenset(Status) - {Status.LOST, Status.INTERRUPTED}
T = TypeVar("T")


class BadAnswerError(CspbenchError):
    """A board sent what is no answer; the text says why."""


def _reported(status: Status) -> Status:
    if status not in REPORTED:
        raise ValueError(f"a board cannot report the status {status}")
    return status


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.:+-]{1,100}", text):
        raise ValueError("not a name")
    return text


def _few(names: list[str]) -> list[str]:
    if len(names) > 100:
        raise ValueError("over 100 names")
    return names


def _cut(text: str) -> str:
    return text[:MAX_REASON]


def short(text: object) -> str:
    """A sentence of a board as it may be shown."""
    return printable(str(text)[:MAX_SENTENCE])


def _end(text: str) -> str:
    return text[-LOG_BYTES:]


Name: TypeAlias = Annotated[str, Checked(_name)]


@dataclass(frozen=True)
class Announcement:
    """Facts that a board announces; see `BoardInfo`."""

    name: BoardLabel
    labels: Annotated[list[BoardLabel], Checked(_few)]
    session: Name
    devices: Annotated[list[Name], Checked(_few)]
    backends: dict[Name, str | None]
    environment: Annotated[Json, Checked(check_environment)]
    cspbench: Name


@dataclass(frozen=True)
class Now:
    """What a board does, for how long, and its state; it comes with each heartbeat.

    ``settings`` are those that were read with its last launch. ``temperature_c`` is of now, or of
    before the launch that it measures.
    """

    state: Literal["idle", "waiting", "measuring"]
    what: Annotated[str, Checked(short)]
    seconds: Amount
    temperature_c: Annotated[float, Within(-300, 1000)] | None
    settings: Annotated[dict[Name, Annotated[str, Checked(short)] | bool | None], AtMost(10)]


@dataclass(frozen=True)
class Report:
    """How a launch ended on a board; the fields are those of `runner.process.Outcome`.

    ``arm`` is the number of its job in the request, or CHECK for the reference's second arm.
    """

    arm: Annotated[int, Within(CHECK, MAX_CASES)]
    status: Annotated[Status, Checked(_reported)]
    reason: Annotated[str, Checked(_cut)]
    answer: Json
    log: Annotated[str, Checked(_end)]
    seconds: Amount
    flags: list[str]
    notes: Json


@dataclass(frozen=True)
class Answer:
    """A board's answer to a request.

    ``ok`` answers a part of a file, ``missing`` names the digests that the board lacks, ``done``
    brings the outcomes of the request ``launch``, and ``refused`` the reason. ``late`` are requests
    whose answers had no way back.
    """

    status: Literal["ok", "missing", "done", "refused"]
    reason: Annotated[str, Checked(_cut)] = ""
    launch: str = ""
    missing: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    #: One for each arm, and one for the reference's second arm.
    outcomes: Annotated[list[Report], FirstWrong(), AtMost(MAX_CASES + 1)] = field(
        default_factory=list
    )


@functools.cache
def _reader(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _read(kind: Callable[..., T], message: Json) -> T:
    found: T = checked(_reader(kind).validate_python, message)
    return found


def read_answer(text: object, board: str) -> Answer:
    """Read the answer of a board.

    Raises:
        BadAnswerError: it is no answer.
    """
    try:
        return _read(Answer, decode(text, f"the board {board}"))
    except ProtocolError as error:
        raise BadAnswerError(str(error)) from None
    except ValueError as error:
        raise BadAnswerError(f"its answer is malformed: {printable(str(error))}") from None


def read_announcement(text: object, address: str) -> Announcement:
    """Read the announcement of the agent at an address.

    Raises:
        ProtocolError: the agent speaks another protocol.
        ValueError: the announcement is malformed; the phrase says where.
    """
    message = decode(text, f"the agent at {address}")
    if len(str(text)) > MAX_ANNOUNCEMENT:
        raise ValueError(f"longer than {MAX_ANNOUNCEMENT // 2**10} KiB")
    return _read(Announcement, message)


def read_now(text: object, board: str) -> Now | None:
    """What a board does; None if it does not say so in the right form."""
    try:
        return _read(Now, decode(text, f"the board {board}"))
    except (ProtocolError, ValueError):
        return None
