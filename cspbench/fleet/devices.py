"""Boards as they announce themselves, and the placement of a suite's cases on them.

A case is placed on one board, where its rounds are interleaved with the board's other cases. The
cases of a label are spread over the boards that have it. A case leaves its board only when the
board is lost, and only for a board of the same label and the same conditions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case
from cspbench.core.text import matches, nearest
from cspbench.errors import InputError
from cspbench.fleet.answers import read_announcement
from cspbench.fleet.protocol import Json
from cspbench.machine.comparability import Use, refusals
from cspbench.runner.plan import Plan, PlannedCase, plan_case
from cspbench.suite.suite import EACH, Suite


@dataclass(frozen=True)
class BoardInfo:
    """A board as the controller knows it.

    ``address`` is that of its Dask worker. ``session`` changes when its agent is started again.
    ``backends`` maps each backend to the reason why the board cannot run it, None if it can.
    ``resources`` are exclusive Dask resources, one for each device.
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

    def alike(self, other: BoardInfo) -> bool:
        """True if the other board is equal in all facts that a moved case needs."""
        return not refusals(self.environment, other.environment, Use.FLEET)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a suite may use for it: its own and its labels."""
        return (self.name, *self.labels)

    def describe(self) -> Json:
        """Facts of the board that a run stores."""
        return {
            "labels": list(self.labels),
            "devices": list(self.devices),
            "backends": dict(self.backends),
            "cspbench": self.cspbench,
            "environment": dict(self.environment),
        }


def read_board(text: object, address: str, resources: Mapping[str, float]) -> BoardInfo:
    """The board that a worker announces.

    Raises:
        ProtocolError: the agent speaks another protocol.
        ValueError: the announcement is malformed; the phrase says where.
    """
    announced = read_announcement(text, address)
    return BoardInfo(
        name=announced.name,
        address=address,
        labels=tuple(announced.labels),
        session=announced.session,
        devices=tuple(announced.devices),
        backends=announced.backends,
        environment=announced.environment,
        resources=dict(resources),
        cspbench=announced.cspbench,
    )


@dataclass(frozen=True)
class FleetPlan:
    """A plan, and by case id the name of its board; a case that no board can run has none."""

    plan: Plan
    placements: Mapping[str, str]
    boards: Mapping[str, BoardInfo]


def plan_fleet(suite: Suite, boards: Sequence[BoardInfo], only: Sequence[str] = ()) -> FleetPlan:
    """Place every case on a board of its label; nothing is sent to the boards.

    Args:
        suite: an expanded suite.
        boards: the fleet.
        only: patterns of case ids, with or without their board.

    Raises:
        InputError: the fleet has no boards or two of one name, no board has a label that the
            suite names, or no case matches.
    """
    if not boards:
        raise InputError(
            "the scheduler has no boards: start one with cspbench agent ADDRESS --label LABEL"
        )
    labels = _labels(suite, boards)
    cases = [
        replace(case, board=label) if label else case
        for case in suite.cases
        for label in labels
        if not only or any(matches(p, case.id) or matches(p, f"{case.id}/{label}") for p in only)
    ]
    if not cases:
        raise InputError(f"no case of {suite.name!r} matches {' or '.join(map(repr, only))}")
    return place_cases(suite, cases, boards)


def place_cases(suite: Suite, cases: Iterable[Case], boards: Sequence[BoardInfo]) -> FleetPlan:
    """Place every case on the least loaded board of its label that can run it.

    Raises:
        InputError: two boards have one name.
    """
    check_names(boards)
    load: Counter[str] = Counter()
    placements: dict[str, str] = {}
    planned: list[PlannedCase] = []
    for case in cases:
        able, reason = _able(case, boards)
        one = plan_case(case, suite.measure.seed, reason)
        planned.append(one)
        if one.status is None:
            chosen = min(able, key=lambda board: load[board.name])
            load[chosen.name] += 1
            placements[one.id] = chosen.name
    used = set(placements.values())
    return FleetPlan(
        Plan(suite, tuple(planned)), placements, {b.name: b for b in boards if b.name in used}
    )


def _able(case: Case, boards: Sequence[BoardInfo]) -> tuple[list[BoardInfo], str | None]:
    """Boards of the case's label that have its backend; without one, the reason."""
    labelled = [board for board in boards if case.board is None or case.board in board.names]
    name = case.backend.name
    reasons = {board.name: missing_backend(board, name) for board in labelled}
    able = [board for board in labelled if reasons[board.name] is None]
    if able:
        return able, None
    return [], "; ".join(f"{board}: {reason}" for board, reason in reasons.items())


def missing_backend(board: BoardInfo, name: str) -> str | None:
    """The reason why a board cannot run a backend; None if it can."""
    BACKENDS.get(name)  # raises for a backend that the controller lacks
    return board.backends.get(name, "this backend is not installed there")


def check_names(boards: Sequence[BoardInfo]) -> None:
    """Refuse boards that cannot be told apart.

    Raises:
        InputError: two have one name.
    """
    addresses: dict[str, list[str]] = defaultdict(list)
    for board in boards:
        addresses[board.name].append(board.address)
    for name, several in addresses.items():
        if len(several) > 1:
            raise InputError(
                f"{len(several)} boards are named {name!r} ({', '.join(several)}): start each "
                "agent with a --name of its own"
            )


def _labels(suite: Suite, boards: Sequence[BoardInfo]) -> list[str | None]:
    """The labels that every case is measured for; [None] for a fleet of one without labels."""
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
            "suite does not say which to measure on: add devices: [LABEL, ...] to it, or give "
            "--set devices=each"
        )
    return [None]
