"""An executor whose launches happen on a board: what the runner asks for, sent through the hub."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet.artifacts import Item, WrongContent, chunks, pair
from cspbench.fleet.client import Hub, Lost
from cspbench.fleet.devices import BoardInfo, different, missing_backend
from cspbench.fleet.protocol import Json, encode
from cspbench.fleet.state import COOL_SECONDS
from cspbench.jobs.spec import CaseRequest, Request
from cspbench.runner.process import Outcome, phase_seconds

#: Phases of a job, each of which has the suite's time-out.
PHASES = 6
#: What a launch may take besides: starting a process, idle power, the way back.
SLACK_SECONDS = 60.0
#: How long a launch may wait for a board that another run has.
QUEUE_SECONDS = 3600.0
#: How long a part of an artifact may take.
PART_SECONDS = 300.0
#: How long a lost board, or another of its label, is waited for.
BOARD_SECONDS = 120.0
_POLL_SECONDS = 1.0


class Stopped(BaseException):
    """The run is ending: no more launches. As KeyboardInterrupt, not for handlers of errors."""


class Files:
    """The artifacts of a run by content, and what each board is known to have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: dict[tuple[str, str], tuple[Item, Item]] = {}
        self._paths: dict[str, Path] = {}

    def pair(self, artifact: str, reference: str) -> tuple[Item, Item]:
        """The two files of a case; hashed once.

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
        """Where a file lies here."""
        return self._paths[item.digest]


class BoardExecutor:
    """Launches on one board, or where it is lost on another of its label.

    Args:
        hub: the way to the boards.
        home: the board that the cases sit on.
        files: artifacts of the run.
        stop: set when the run ends.
        notes: sentences that somebody should read.
        board_seconds: how long a lost board is waited for.
    """

    def __init__(
        self,
        hub: Hub,
        home: BoardInfo,
        files: Files,
        stop: threading.Event,
        notes: list[str] | None = None,
        board_seconds: float = BOARD_SECONDS,
    ) -> None:
        self._hub = hub
        self._home = home
        self._files = files
        self._stop = stop
        self._notes = notes if notes is not None else []
        self._board_seconds = board_seconds
        self._abandoned = False

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Send one job to the board; a launch that does not come back is ``lost``.

        Raises:
            Stopped: the run is ending.
        """
        started = time.monotonic()
        case = request.case if isinstance(request, CaseRequest) else None
        board = self._find(case)
        if board is None:
            reason = f"no board for it: {self._home.name} is gone, and no other may take its place"
            return Outcome(Status.LOST, reason, final=True)
        launch = self._hub.new_launch()
        try:
            outcome = self._on(board, launch, request, threads, timeout_seconds)
        except Lost as error:
            reason = f"board {board.name}: {error}"
            outcome = Outcome(Status.LOST, reason, notes={"board": board.name, "launch": launch})
        except WrongContent as error:
            reason = f"board {board.name}: {error}"
            outcome = Outcome(Status.FAILED, reason, notes={"board": board.name})
        if self._stop.is_set():
            raise Stopped
        if outcome.status is Status.LOST:
            outcome.seconds = time.monotonic() - started
        return outcome

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
        """Boards build and export nothing."""
        raise NotImplementedError("models are prepared by the controller")

    # -- which board -----------------------------------------------------------------------------

    def _find(self, case: Case | None) -> BoardInfo | None:
        """The home board, waiting for it a while; then another that may stand in for it."""
        deadline = time.monotonic() + (0.0 if self._abandoned else self._board_seconds)
        while True:
            if self._stop.is_set():
                raise Stopped
            try:
                boards = self._hub.boards()
            except OSError:  # the scheduler is away too
                boards = []
            home = next((board for board in boards if board.name == self._home.name), None)
            if home is not None and not different(self._home.environment, home.environment):
                self._abandoned = False
                return home
            if home is not None or time.monotonic() >= deadline:
                self._abandoned = True
                return self._substitute(boards, case)
            self._stop.wait(_POLL_SECONDS)

    def _substitute(self, boards: Sequence[BoardInfo], case: Case | None) -> BoardInfo | None:
        """A board of the case's label with the same conditions; none for a case of one board."""
        if case is None:
            return None
        for board in boards:
            if (
                board.name != self._home.name
                and case.board in board.labels
                and missing_backend(board, case.backend.name) is None
                and not different(self._home.environment, board.environment)
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
        for _ in range(2):  # a second time after what the board lacked was sent
            answer = self._hub.ask(
                board, message, launch=launch, seconds=bound, queue_seconds=QUEUE_SECONDS
            )
            if answer["status"] != "missing":
                break
            self._send(board, [item for item in items if item.digest in answer["missing"]])
            launch = content["launch"] = self._hub.new_launch()
            message = encode("launch", content)
        return self._outcome(board, launch, answer)

    def _outcome(self, board: BoardInfo, launch: str, answer: Mapping[str, Any]) -> Outcome:
        if answer["status"] != "done":
            reason = answer.get("reason", "it does not keep what is sent to it")
            return Outcome(
                Status.FAILED, f"board {board.name}: {reason}", notes={"board": board.name}
            )
        if answer["launch"] != launch:
            raise Lost(f"it answered for launch {answer['launch']}, not {launch}")
        for late in answer.get("late", ()):
            self._hub.late.append(str(late))
        try:
            return _read_outcome(answer["outcome"], {"board": board.name, "launch": launch})
        except (KeyError, TypeError, ValueError) as error:
            reason = f"board {board.name}: its answer is malformed: {error}"
            return Outcome(Status.FAILED, reason, notes={"board": board.name, "launch": launch})

    def _send(self, board: BoardInfo, items: Sequence[Item]) -> None:
        """Send files to a board, in parts.

        Raises:
            WrongContent: what arrived there is not what was sent.
            Lost: the board went away.
        """
        for item in items:
            for offset, data in chunks(self._files.path(item)):
                request = encode("put", {"item": asdict(item), "offset": offset})
                answer = self._hub.ask(
                    board, request, data=data, seconds=PART_SECONDS, queue_seconds=QUEUE_SECONDS
                )
                if answer["status"] != "ok":
                    raise WrongContent(str(answer.get("reason")))


def _read_outcome(found: Mapping[str, Any], ours: Json) -> Outcome:
    """What a board told; ``ours`` (which board it was, which launch) it has no say in."""
    return Outcome(
        Status(found["status"]),
        str(found["reason"]),
        dict(found["answer"]),
        str(found["log"]),
        float(found["seconds"]),
        flags=list(map(str, found["flags"])),
        notes={**found["notes"], **ours},
    )


def launch_bound(job: Mapping[str, Any], timeout_seconds: float) -> float:
    """Longest time of a launch on a board that is well, from when it has begun."""
    worked = phase_seconds(dict(job), "warm-up") + phase_seconds(dict(job), "sample")
    return PHASES * timeout_seconds + worked + COOL_SECONDS + SLACK_SECONDS
