"""An executor whose launches run on a board: it sends the runner's requests there."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.core.text import printable
from cspbench.fleet.answers import Answer, BadAnswerError, Report
from cspbench.fleet.artifacts import Item, WrongContent, chunks, pair
from cspbench.fleet.client import FleetClient, LostRequestError
from cspbench.fleet.devices import BoardInfo, missing_backend
from cspbench.fleet.protocol import encode
from cspbench.fleet.work import Remaining, Work, in_turns, single
from cspbench.jobs.spec import CaseRequest, Request
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.process import Outcome

#: How long a launch may wait for a board that another run uses.
QUEUE_SECONDS = 3600.0
#: How long the transfer of one part of an artifact may take.
PART_SECONDS = 300.0
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
        waits: called with the name of a board and a sentence that says what its cases wait for.
    """

    def __init__(
        self,
        client: FleetClient,
        home: BoardInfo,
        files: Files,
        stop: threading.Event,
        board_seconds: float,
        waits: Callable[[str, str], None] = lambda _board, _sentence: None,
    ) -> None:
        self._client = client
        self._home = home
        self._files = files
        self._stop = stop
        self._agent = home.session  # of the agent that answered last
        self._board_seconds = board_seconds
        self._waits = waits
        self._abandoned = False

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Send one job to the board; a launch without an answer has the status ``lost``.

        Raises:
            Stopped: the run is ending.
        """
        board = self._find(request.case if isinstance(request, CaseRequest) else None)
        if board is None:
            return self._lost_for_good()
        return self._measured(board, single(request, threads), timeout_seconds)[0]

    def work(self, work: Work, timeout_seconds: float) -> Outcome:
        """Let the home board, and no other, do work that has one outcome."""
        board = self._find(None)
        return self._measured(board, work, timeout_seconds)[0] if board else self._lost_for_good()

    def block(self, request: BlockRequest, timeout_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Let the board measure the cases in as few blocks as fit into its memory.

        Each block is a request of its own, so that a board that is lost costs the block under way
        and nothing before it.

        Raises:
            Stopped: the run is ending.
        """
        left = Remaining(request)
        for number, arm in enumerate(request.arms):
            try:
                self._files.pair(str(arm.artifact), str(arm.reference))
            except WrongContent as error:  # it costs no other case its launch
                yield left.drop(number), Outcome(Status.FAILED, str(error))
        while first := left.next:
            board = self._find(first.case)
            if board is None:
                yield left.drop(), self._lost_for_good()
                continue
            part = left.part(functools.partial(self._takes, board))
            outcomes = self._measured(board, in_turns(part.request), timeout_seconds)
            left.ended(part, outcomes)
            for number, outcome in outcomes.items():
                yield part.number(number), outcome

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
        """Not supported: boards build and export nothing."""
        raise NotImplementedError("models are prepared by the controller")

    # -- which board -----------------------------------------------------------------------------

    def _find(self, case: Case | None) -> BoardInfo | None:
        """Wait for the home board; after ``board_seconds`` find a substitute for it."""
        deadline = time.monotonic() + (0.0 if self._abandoned else self._board_seconds)
        waiting = False
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
            if not waiting:
                waiting = True
                bound = f"at most {self._board_seconds:g} s"
                self._waits(self._home.name, f"it is lost; waiting for it to come back, {bound}")
            self._stop.wait(_POLL_SECONDS)

    def _at_home(self, boards: Sequence[BoardInfo]) -> BoardInfo | None:
        """The home board: the known agent, or a new one if only one has the board's name."""
        named = [board for board in boards if board.name == self._home.name]
        known = [board for board in named if board.session == self._agent]
        chosen = known or named
        return chosen[0] if len(chosen) == 1 else None

    def _substitute(self, boards: Sequence[BoardInfo], case: Case | None) -> BoardInfo | None:
        """A board of the case's label with the same conditions; None without one."""
        others = [board for board in boards if board.name != self._home.name]
        return next((b for b in others if case is not None and self._takes(b, case)), None)

    def _takes(self, board: BoardInfo, case: Case) -> bool:
        """Whether a board may measure a case: the home board, or one of its kind and label."""
        return board.name == self._home.name or (
            case.board in board.labels
            and missing_backend(board, case.backend.name) is None
            and self._home.alike(board)
        )

    def _lost_for_good(self) -> Outcome:
        reason = f"board {self._home.name} is lost, and no other board may take its cases"
        return Outcome(Status.LOST, reason, final=True)

    # -- one request -----------------------------------------------------------------------------

    def _measured(self, board: BoardInfo, work: Work, timeout: float) -> dict[int, Outcome]:
        """Let a board work.

        Returns:
            the outcomes by arm. Without an answer each arm is lost, after a bad answer failed.

        Raises:
            Stopped: the run is ending.
        """
        started = time.monotonic()
        launch = self._client.new_launch()
        outcomes: dict[int, Outcome] = {}
        status, reason = Status.FAILED, ""
        try:
            launch, answer = self._ask(board, launch, work, timeout)
            outcomes = self._outcomes(launch, work, answer)
        except LostRequestError as error:
            status, reason = Status.LOST, f"board {board.name}: {error}"
        except (WrongContent, BadAnswerError) as error:
            reason = f"board {board.name}: {error}"
        if self._stop.is_set():
            raise Stopped
        seconds = time.monotonic() - started
        if reason:
            each = seconds / len(work.jobs)
            arms = range(len(work.jobs))
            outcomes = {arm: Outcome(status, reason, seconds=each) for arm in arms}
        for arm, outcome in outcomes.items():
            outcome.seconds = min(outcome.seconds, seconds)
            outcome.notes |= {"board": board.name, "launch": work.launch(launch, arm)}
        return outcomes

    def _ask(self, board: BoardInfo, launch: str, work: Work, timeout: float) -> tuple[str, Answer]:
        """Ask a board, and ask again after the missing files were sent.

        Returns:
            the id of the request that was answered, and the answer.
        """
        items: dict[Item, None] = {}  # in order, each once
        jobs = []
        for job in work.jobs:
            sent = job.to_json()
            if isinstance(job, CaseRequest):
                files = self._files.pair(str(job.artifact), str(job.reference))
                items |= dict.fromkeys(files)
                sent |= {"artifact": asdict(files[0]), "reference": asdict(files[1])}
            jobs.append(sent)
        content = {
            **work.content, "launch": launch, "jobs": jobs, "timeout": timeout,
            "queue": QUEUE_SECONDS,
        }  # fmt: skip
        for _ in range(2):
            answer = self._client.ask(
                board,
                encode(work.kind, content),
                launch=launch,
                seconds=work.seconds(timeout),
                queue_seconds=QUEUE_SECONDS,
                waits=functools.partial(self._waits, board.name),
            )
            if answer.status != "missing":
                break
            self._send(board, [item for item in items if item.digest in answer.missing])
            launch = content["launch"] = self._client.new_launch()
        return launch, answer

    def _outcomes(self, launch: str, work: Work, answer: Answer) -> dict[int, Outcome]:
        """The outcomes that a board reports, by arm.

        Raises:
            BadAnswerError: the answer is none to this request.
        """
        if answer.status == "missing":
            raise BadAnswerError("files that were sent to it are missing there")
        if answer.status == "refused":
            raise BadAnswerError(answer.reason or f"it refused the {work.kind}")
        if answer.status != "done":
            raise BadAnswerError(f"it answered {answer.status} to a {work.kind}")
        if answer.launch != launch:
            raise BadAnswerError(
                f"it answered for launch {printable(answer.launch[:80])}, not {launch}"
            )
        arms = [report.arm for report in answer.outcomes]
        if len(set(arms)) < len(arms) or not set(arms) <= set(work.arms):
            raise BadAnswerError("it answered for launches that it was not asked for")
        if not arms and len(work.jobs) == 1:
            raise BadAnswerError("it answered without an outcome")
        self._client.note_late(answer.late)
        return {report.arm: _outcome(report, work.name) for report in answer.outcomes}

    def _send(self, board: BoardInfo, items: Sequence[Item]) -> None:
        """Send files to a board, in parts.

        Raises:
            WrongContent: the board received another content.
            BadAnswerError: it sent what is no answer.
            LostRequestError: the board went away.
        """
        size = sum(item.size for item in items)
        self._waits(board.name, f"sending {len(items)} files to it, {size / 1e6:.1f} MB")
        for item in items:
            for offset, data in chunks(self._files.path(item)):
                request = encode("put", {"item": asdict(item), "offset": offset})
                answer = self._client.ask(
                    board, request, data=data, seconds=PART_SECONDS, queue_seconds=QUEUE_SECONDS,
                    waits=functools.partial(self._waits, board.name),
                )  # fmt: skip
                if answer.status != "ok":
                    raise WrongContent(answer.reason or f"it answered {answer.status} to a file")


def _outcome(report: Report, block: str | None) -> Outcome:
    """A reported outcome. Who took turns with whom is the controller's to say."""
    turns = report.answer.pop("turns", None)
    if isinstance(turns, dict) and block is not None:
        report.answer["turns"] = {**turns, "block": block}
    return Outcome(
        report.status,
        report.reason,
        report.answer,
        report.log,
        report.seconds,
        flags=report.flags,
        notes=report.notes,
    )
