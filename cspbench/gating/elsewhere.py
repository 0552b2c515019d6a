"""Where a gate measures if not on this machine: a board of a fleet, as far as a gate needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.gating.duet import ElsewhereArms
from cspbench.gating.measured import Launcher, launcher_here
from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide, SideRequest
from cspbench.jobs.spec import Request
from cspbench.runner.process import Outcome


class GateBoard(Protocol):
    """A board that measures both sides of a gate in turns."""

    @property
    def name(self) -> str:
        """Its name, for people."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Facts of the board."""

    def missing(self, backend: str) -> str | None:
        """Why it cannot run a backend; None if it can."""

    def arms(
        self, pair: Pair, base: OpenSide, head: OpenSide, *, layers: bool = False
    ) -> ElsewhereArms:
        """What makes the arms of a pair on the board."""

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """One job in a process of its own there."""


def launcher(board: GateBoard | None) -> Launcher:
    """Does the launches of measured rules: on the board, or here without one."""
    if board is None:
        return launcher_here()
    return lambda _side, request, threads, timeout: board.launch(request, threads, timeout)


def check_sides(sides: Sequence[SideRequest]) -> None:
    """Refuse sides that have an environment of their own: a board has one.

    Raises:
        InputError: a side has.
    """
    for side in sides:
        if side.python is not None:
            raise InputError(
                f"{side.text} has a Python environment of this machine, and a board has one of its "
                "own: leave out --scheduler, or compare git refs or settings"
            )


def on_board(side: OpenSide, board: GateBoard) -> OpenSide:
    """A side whose cases run on the board; those that it cannot run are ``unavailable``."""

    def checked(case: Prepared) -> Prepared:
        reason = board.missing(case.case.backend.name) if case.status is None else None
        if reason is None:
            return case
        text = f"on {board.name}: {reason}"
        return replace(case, status=Status.UNAVAILABLE, reason=text)

    return replace(side, cases=[checked(case) for case in side.cases])
