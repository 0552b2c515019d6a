"""A gate on a board of a fleet: the controller prepares and decides, the board measures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cspbench.core.statuses import Status
from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.fleet.client import FleetClient
from cspbench.fleet.devices import BoardInfo, check_names, missing_backend
from cspbench.fleet.duet import bursts_of, one_block, profiles_of
from cspbench.fleet.executor import BoardExecutor, Files
from cspbench.gating.duet import SIDES, Bursts, ElsewhereArms, Schedule, Side
from cspbench.gating.measure import load_request
from cspbench.gating.prepare import Pair
from cspbench.gating.sides import OpenSide
from cspbench.jobs.burst import ProfileResult
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.load import Conditions, LoadRequest
from cspbench.jobs.spec import Request
from cspbench.runner.arms import ArmLostError, Burst, Loaded
from cspbench.runner.process import Outcome


def choose_board(boards: Sequence[BoardInfo], label: str | None) -> BoardInfo:
    """The board of a label that a gate measures on: the first by name.

    A gate stays on one board: two boards of a label are two machines.

    Raises:
        InputError: there is none, or several and no label.
    """
    check_names(boards)
    if not boards:
        raise InputError("the scheduler has no boards: start one with cspbench agent ADDRESS")
    if label is None:
        if len(boards) > 1:
            names = ", ".join(board.name for board in boards)
            raise InputError(f"the fleet has {len(boards)} boards ({names}): give --on LABEL")
        return boards[0]
    labelled = [board for board in boards if label in board.names]
    if not labelled:
        known = list(dict.fromkeys(name for board in boards for name in board.names))
        raise InputError(
            f"no board has the label {label!r}{nearest(label, known)}; the fleet has: "
            f"{', '.join(known)}"
        )
    return labelled[0]


class BoardOfGate:
    """A board at the service of a gate (`gating.elsewhere.GateBoard`).

    Args:
        client: connects to it, and says how long it is waited for if it is lost.
        board: the board.
        report: gets a sentence when something waits.
    """

    def __init__(
        self,
        client: FleetClient,
        board: BoardInfo,
        report: Callable[[str], None],
    ) -> None:
        self._board = board
        self._executor = BoardExecutor(
            client, board, Files(), threading.Event(), board_seconds=client.return_seconds,
            waits=lambda name, sentence: report(f"{name}: {sentence}"),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Its name, for people."""
        return f"board {self._board.name}"

    @property
    def environment(self) -> Mapping[str, Any]:
        """Facts of the board."""
        return self._board.environment

    def missing(self, backend: str) -> str | None:
        """Why it cannot run a backend; None if it can."""
        return missing_backend(self._board, backend)

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """One job in a process of its own there."""
        return self._executor.launch(request, threads, timeout_seconds)

    def arms(
        self, pair: Pair, base: OpenSide, head: OpenSide, *, layers: bool = False
    ) -> ElsewhereArms:
        """What makes the arms of a pair on the board."""
        loads: dict[Side, LoadRequest] = {
            "base": replace(load_request(pair.base, base.suite.measure), layers=layers),
            "head": replace(load_request(pair.head, head.suite.measure), layers=layers),
        }
        timeout = max(side.suite.measure.timeout_seconds for side in (base, head))
        return _Arms(self._executor, loads, timeout)


class _Arms(ElsewhereArms):
    """Both sides of a pair on a board."""

    def __init__(
        self, executor: BoardExecutor, loads: Mapping[Side, LoadRequest], timeout: float
    ) -> None:
        self._executor = executor
        self._loads = loads
        self._timeout = timeout

    def __call__(self, side: Side) -> _OneArm:
        """An arm that can be loaded."""
        return _OneArm(self, side)

    def block(
        self, schedule: Schedule, order: tuple[Side, Side], pairs: int, number: int
    ) -> Bursts:
        """A whole block, whose turns the board orders.

        Raises:
            ArmLostError: an arm, or the board, was lost.
        """
        return bursts_of(self._unchanged(schedule, order, pairs, number), schedule, pairs)

    def profiled(self, number: int) -> Mapping[Side, LayerTimes]:
        """Profiles of both sides, which took turns there.

        Raises:
            NoProfileError: a backend has no profiler of layers.
            ArmLostError: an arm, or the board, was lost.
        """
        return profiles_of(self._unchanged("duet", SIDES, 0, number))

    def _unchanged(
        self, schedule: Schedule, order: Sequence[Side], pairs: int, number: int
    ) -> Outcome:
        """How a block went during which no setting of the board changed."""
        outcome = self.ask(schedule, order, pairs, number)
        if "board_changed" in outcome.flags:
            text = "a setting of the board changed during the block (governor, power mode, clocks)"
            raise ArmLostError("board", "unlike_arms", Outcome(Status.FAILED, text))
        return outcome

    def ask(
        self, schedule: Schedule, order: Sequence[Side], pairs: int, number: int = 0
    ) -> Outcome:
        """Let the board work."""
        block = one_block(self._loads, schedule, order, pairs, number)
        return self._executor.work(block, self._timeout)


class _OneArm:
    """One side on a board. It can be loaded, and nothing else: turns are a whole block's."""

    def __init__(self, arms: _Arms, side: Side) -> None:
        self._arms = arms
        self._side = side

    def start(self) -> None:
        """Nothing: the board starts it when it is to load."""

    def load(self) -> Loaded:
        """Load it and end it again."""
        outcome = self._arms.ask("duet", [self._side], 0)
        if outcome.status is not Status.OK:
            raise ArmLostError(self._side, "arm_ended", outcome)
        return Loaded(1.0, Conditions(None, 0))

    def burst(self, count: int) -> Burst:
        """Not possible."""
        raise self._alone(f"a burst of {count}")

    def conditions(self) -> Conditions:
        """Not possible."""
        raise self._alone("conditions")

    def keep_to(self, processors: Sequence[int]) -> Conditions | None:
        """Not possible."""
        raise self._alone(f"processors {processors}")

    def profile(self) -> ProfileResult:
        """Not possible."""
        raise self._alone("a profile")

    def _alone(self, what: str) -> ArmLostError:
        text = f"a board gives whole blocks, and not {what} of one side"
        return ArmLostError(self._side, "arm_ended", Outcome(Status.FAILED, text))

    def close(self) -> None:
        """Nothing: it has ended."""
