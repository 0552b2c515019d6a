"""Which board does what: boards as announced, the cases that a suite gives them, and their seats.

A case sits on one board, where its rounds are interleaved with the board's other cases. Boards of
one label share its cases out; a case leaves its board only when the board is lost, and only for a
board of the same label and the same conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case
from cspbench.core.text import matches, nearest
from cspbench.errors import InputError
from cspbench.fleet.protocol import Json, decode
from cspbench.runner.plan import Plan, PlannedCase, plan_case
from cspbench.suite.suite import EACH, Suite

#: Facts of the environment that must be equal for a case to move from board to board.
CONDITIONS = (
    "cpu", "cores_usable", "governor", "machine", "libraries", "nvidia_driver", "board", "nvpmodel",
)  # fmt: skip


@dataclass(frozen=True)
class BoardInfo:
    """A board as the controller knows it.

    ``address`` is its worker's; ``session`` changes when its agent is started again; ``backends``
    holds why each cannot run there, None if it can; ``resources`` are Dask's, one a device.
    """

    name: str
    address: str
    labels: tuple[str, ...] = ()
    session: str = ""
    devices: tuple[str, ...] = ("cpu",)
    backends: Mapping[str, str | None] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    cspbench: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All that a suite may call it."""
        return (self.name, *self.labels)

    def describe(self) -> Json:
        """What a run keeps of it."""
        return {
            "labels": list(self.labels),
            "devices": list(self.devices),
            "backends": dict(self.backends),
            "cspbench": self.cspbench,
            "environment": dict(self.environment),
        }


def read_announcement(text: object, address: str, resources: Mapping[str, float]) -> BoardInfo:
    """A board from what its worker announces.

    Raises:
        ProtocolError: it speaks another protocol.
    """
    found = decode(text, f"the agent at {address}")
    return BoardInfo(
        name=str(found["name"]),
        address=address,
        labels=tuple(map(str, found["labels"])),
        session=str(found["session"]),
        devices=tuple(map(str, found["devices"])),
        backends=dict(found["backends"]),
        environment=dict(found["environment"]),
        resources=dict(resources),
        cspbench=str(found["cspbench"]),
    )


def different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Conditions in which two environments differ."""
    return [name for name in CONDITIONS if one.get(name) != other.get(name)]


@dataclass(frozen=True)
class FleetPlan:
    """A plan, and the name of the board that each case sits on (none: no board can run it)."""

    plan: Plan
    seats: Mapping[str, str]
    boards: Mapping[str, BoardInfo]


def plan_fleet(suite: Suite, boards: Sequence[BoardInfo], only: Sequence[str] = ()) -> FleetPlan:
    """Check every case against the boards that may take it; nothing is sent to them.

    Args:
        suite: an expanded suite.
        boards: the fleet.
        only: patterns of case ids, with or without their board.

    Raises:
        InputError: no boards, a label that no board has, boards of one name, or no case left.
    """
    _check_names(boards)
    labels = _labels(suite, boards)
    cases = [
        replace(case, board=label) if label else case
        for case in suite.cases
        for label in labels
        if not only or any(matches(p, case.id) or matches(p, f"{case.id}/{label}") for p in only)
    ]
    if not cases:
        raise InputError(f"no case of {suite.name!r} matches {' or '.join(map(repr, only))}")
    return seat(suite, cases, boards)


def seat(suite: Suite, cases: Iterable[Case], boards: Sequence[BoardInfo]) -> FleetPlan:
    """Give every case the board of its label that has the fewest so far and can run it."""
    load: Counter[str] = Counter()
    seats: dict[str, str] = {}
    planned: list[PlannedCase] = []
    for case in cases:
        able, reason = _able(case, boards)
        one = plan_case(case, suite.measure.seed, reason)
        planned.append(one)
        if one.status is None:
            chosen = min(able, key=lambda board: load[board.name])
            load[chosen.name] += 1
            seats[one.id] = chosen.name
    used = set(seats.values())
    return FleetPlan(
        Plan(suite, tuple(planned)), seats, {b.name: b for b in boards if b.name in used}
    )


def _able(case: Case, boards: Sequence[BoardInfo]) -> tuple[list[BoardInfo], str | None]:
    """Boards of the case's label that have its backend; else why not."""
    mine = [board for board in boards if case.board is None or case.board in board.names]
    name = case.backend.name
    reasons = {board.name: missing_backend(board, name) for board in mine}
    able = [board for board in mine if reasons[board.name] is None]
    if able:
        return able, None
    return [], "; ".join(f"{board}: {reason}" for board, reason in reasons.items())


def missing_backend(board: BoardInfo, name: str) -> str | None:
    """Why a board cannot run a backend; None if it can."""
    BACKENDS.get(name)  # the controller must know it too
    return board.backends.get(name, "this backend is not installed there")


def _check_names(boards: Sequence[BoardInfo]) -> None:
    if not boards:
        raise InputError(
            "the scheduler has no boards: start one with cspbench agent ADDRESS --label LABEL"
        )
    for name, number in Counter(board.name for board in boards).items():
        if number > 1:
            raise InputError(
                f"{number} boards are named {name!r}: start their agents with --name, each another"
            )


def _labels(suite: Suite, boards: Sequence[BoardInfo]) -> list[str | None]:
    """What the cases are multiplied by; [None] where a fleet of one needs no label."""
    known = list(dict.fromkeys(name for board in boards for name in board.names))
    if suite.devices == (EACH,):
        return [board.name for board in sorted(boards, key=lambda board: board.name)]
    unknown = [label for label in suite.devices if label not in known]
    if unknown:
        raise InputError(
            [
                f"{suite.path or suite.name}: no board has the label {label!r}"
                f"{nearest(label, known)}; the fleet has: {', '.join(known)}"
                for label in unknown
            ]
        )
    if suite.devices:
        return list(suite.devices)
    if len(boards) > 1:
        raise InputError(
            f"the fleet has {len(boards)} boards ({', '.join(b.name for b in boards)}), and the "
            "suite does not say which to measure: add devices: [LABEL, ...], or --set devices=each"
        )
    return [None]
