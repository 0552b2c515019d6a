"""An executor whose launches run on a board: it sends the runner's requests there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.core.text import printable
from cspbench.fleet.answers import Answer, BadAnswerError
from cspbench.fleet.artifacts import Item, WrongContent, chunks, pair
from cspbench.fleet.client import FleetClient, LostRequestError
from cspbench.fleet.devices import BoardInfo, missing_backend
from cspbench.fleet.protocol import encode
from cspbench.fleet.state import COOL_SECONDS
from cspbench.jobs.spec import CaseRequest, Request
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.executor import one_at_a_time
from cspbench.runner.process import Outcome, phase_seconds

#: Phases of a job, each of which has the suite's time-out.
PHASES = 6
#: Time of a launch outside its phases: process start, idle power, transfer of the answer.
SLACK_SECONDS = 60.0
#: How long a launch may wait for a board that another run uses.
QUEUE_SECONDS = 3600.0
#: How long the transfer of one part of an artifact may take.
PART_SECONDS = 300.0
#: How long a launch waits for a lost board before another board of its label takes the case.
BOARD_SECONDS = 120.0
_POLL_SECONDS = 1.0


class Stopped(BaseException):
    """The run is ending: no more launches. Like KeyboardInterrupt it passes error handlers."""


class Files:
    """The artifact files of a run by content hash; each is hashed once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: dict[tuple[str, str], tuple[Item, Item]] = {}
        self._paths: dict[str, Path] = {}

    def pair(self, artifact: str, reference: str) -> tuple[Item, Item]:
        """Return the two files of a case as items.

        Raises:
            WrongContent: one of them cannot be read.
        """
        with self._lock:
            key = (artifact, reference)
            if key not in self._pairs:
                items = pair(Path(artifact), Path(reference))
                self._pairs[key] = items
                for item, path in zip(items, key, strict=True):
                    self._paths[item.digest] = Path(path)
            return self._pairs[key]

    def path(self, item: Item) -> Path:
        """The path of a file on the controller."""
        return self._paths[item.digest]


class BoardExecutor:
    """Launches on one board; if that is lost, on another board of its label.

    Args:
        client: connects to the boards.
        home: the board that the cases are placed on.
        files: artifacts of the run.
        stop: set when the run ends.
        board_seconds: how long to wait for a lost board.
    """

    takes_turns = False  # not yet: a board is asked for one launch at a time

    def __init__(
        self,
        client: FleetClient,
        home: BoardInfo,
        files: Files,
        stop: threading.Event,
        board_seconds: float = BOARD_SECONDS,
    ) -> None:
        self._client = client
        self._home = home
        self._files = files
        self._stop = stop
        self._agent = home.session  # of the agent that answered last
        self._board_seconds = board_seconds
        self._abandoned = False

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Send one job to the board; a launch without an answer has the status ``lost``.

        Raises:
            Stopped: the run is ending.
        """
        started = time.monotonic()
        case = request.case if isinstance(request, CaseRequest) else None
        board = self._find(case)
        if board is None:
            reason = f"board {self._home.name} is lost, and no other board may take its cases"
            return Outcome(Status.LOST, reason, final=True)
        launch = self._client.new_launch()
        try:
            outcome = self._on(board, launch, request, threads, timeout_seconds)
        except LostRequestError as error:
            reason = f"board {board.name}: {error}"
            outcome = Outcome(Status.LOST, reason, notes={"board": board.name, "launch": launch})
        except (WrongContent, BadAnswerError) as error:
            reason = f"board {board.name}: {error}"
            outcome = Outcome(Status.FAILED, reason, notes={"board": board.name})
        if self._stop.is_set():
            raise Stopped
        elapsed = time.monotonic() - started
        lost = outcome.status is Status.LOST
        outcome.seconds = elapsed if lost else min(outcome.seconds, elapsed)
        return outcome

    def block(self, request: BlockRequest, timeout_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """The cases of a block, one launch after the other."""
        return one_at_a_time(self, request, timeout_seconds)

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
        """Not supported: boards build and export nothing."""
        raise NotImplementedError("models are prepared by the controller")

    # -- which board -----------------------------------------------------------------------------

    def _find(self, case: Case | None) -> BoardInfo | None:
        """Wait for the home board; after ``board_seconds`` find a substitute for it."""
        deadline = time.monotonic() + (0.0 if self._abandoned else self._board_seconds)
        while True:
            if self._stop.is_set():
                raise Stopped
            try:
                boards = self._client.boards()
            except OSError:  # the scheduler is lost too
                boards = []
            home = self._at_home(boards)
            if home is not None and self._home.alike(home):
                self._abandoned, self._agent = False, home.session
                return home
            if home is not None or time.monotonic() >= deadline:
                self._abandoned = True
                return self._substitute(boards, case)
            self._stop.wait(_POLL_SECONDS)

    def _at_home(self, boards: Sequence[BoardInfo]) -> BoardInfo | None:
        """The home board: the known agent, or a new one if only one has the board's name."""
        named = [board for board in boards if board.name == self._home.name]
        known = [board for board in named if board.session == self._agent]
        chosen = known or named
        return chosen[0] if len(chosen) == 1 else None

    def _substitute(self, boards: Sequence[BoardInfo], case: Case | None) -> BoardInfo | None:
        """A board of the case's label with the same conditions; None without one."""
        if case is None:
            return None
        for board in boards:
            if (
                board.name != self._home.name
                and case.board in board.labels
                and missing_backend(board, case.backend.name) is None
                and self._home.alike(board)
            ):
                return board
        return None

    # -- one launch ------------------------------------------------------------------------------

    def _on(
        self, board: BoardInfo, launch: str, request: Request, threads: int, timeout: float
    ) -> Outcome:
        items: tuple[Item, ...] = ()
        sent = request.to_json()
        if isinstance(request, CaseRequest):
            items = self._files.pair(str(request.artifact), str(request.reference))
            sent |= {"artifact": asdict(items[0]), "reference": asdict(items[1])}
        content = {
            "launch": launch, "job": sent, "threads": threads, "timeout": timeout,
            "queue": QUEUE_SECONDS,
        }  # fmt: skip
        message = encode("launch", content)
        bound = launch_bound(sent, timeout)
        for _ in range(2):  # the second time after the missing files were sent
            answer = self._client.ask(
                board, message, launch=launch, seconds=bound, queue_seconds=QUEUE_SECONDS
            )
            if answer.status != "missing":
                break
            self._send(board, [item for item in items if item.digest in answer.missing])
            launch = content["launch"] = self._client.new_launch()
            message = encode("launch", content)
        return self._outcome(board, launch, answer)

    def _outcome(self, board: BoardInfo, launch: str, answer: Answer) -> Outcome:
        """The outcome that a board reports; its envelope is the controller's.

        Raises:
            BadAnswerError: the answer is none to this launch.
        """
        if answer.status == "missing":
            raise BadAnswerError("files that were sent to it are missing there")
        if answer.status == "refused":
            raise BadAnswerError(answer.reason or "it refused the launch")
        if answer.outcome is None:
            raise BadAnswerError(f"it answered {answer.status} to a launch")
        if answer.launch != launch:
            raise BadAnswerError(
                f"it answered for launch {printable(answer.launch[:80])}, not {launch}"
            )
        self._client.note_late(answer.late)
        reported = answer.outcome
        return Outcome(
            reported.status,
            reported.reason,
            reported.answer,
            reported.log,
            reported.seconds,
            flags=reported.flags,
            notes={**reported.notes, "board": board.name, "launch": launch},
        )

    def _send(self, board: BoardInfo, items: Sequence[Item]) -> None:
        """Send files to a board, in parts.

        Raises:
            WrongContent: the board received another content.
            BadAnswerError: it sent what is no answer.
            LostRequestError: the board went away.
        """
        for item in items:
            for offset, data in chunks(self._files.path(item)):
                request = encode("put", {"item": asdict(item), "offset": offset})
                answer = self._client.ask(
                    board, request, data=data, seconds=PART_SECONDS, queue_seconds=QUEUE_SECONDS
                )
                if answer.status != "ok":
                    raise WrongContent(answer.reason or f"it answered {answer.status} to a file")


def launch_bound(job: Mapping[str, Any], timeout_seconds: float) -> float:
    """Upper bound of a launch on a working board, in seconds from when it has begun."""
    measuring = phase_seconds(dict(job), "warm-up") + phase_seconds(dict(job), "sample")
    return PHASES * timeout_seconds + measuring + COOL_SECONDS + SLACK_SECONDS
