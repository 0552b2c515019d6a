"""What a board is asked to do, from its first wait to its answer; and how it ends before that."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cspbench.errors import CspbenchError
from cspbench.runner.process import end_workers

log = logging.getLogger("cspbench.agent")
#: How often a board that waits or works looks whether it was told to end.
LOOK_SECONDS = 0.5
#: How often it ends its workers from then on: what is at work may start another one.
END_AGAIN_SECONDS = 0.05


class EndedError(CspbenchError):
    """The board was told to end, or the controller that asked for the work cannot be reached."""


@dataclass(frozen=True)
class Connection:
    """What a board tells the controller while it answers, beside the answer.

    began: called with the id of a launch or block when it has the board to itself. waits: called
    with the id and a sentence that says what the board waits for. alive: whether an answer would
    reach the controller.
    """

    began: Callable[[str], None] = lambda _launch: None
    waits: Callable[[str, str], None] = lambda _launch, _sentence: None
    alive: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Doing:
    """What a board does at this moment, and since when (`time.monotonic`).

    ``state`` is idle, waiting or measuring. ``temperature_c`` is what was read before it began to
    measure: while it measures nothing is read beside.
    """

    state: str = "idle"
    what: str = ""
    temperature_c: float | None = None
    since: float = field(default_factory=time.monotonic)


@dataclass
class Task:
    """A launch or block that a board was asked for.

    Args:
        launch: its id.
        what: what it measures, in a few words.
        board: name of the board.
        connection: the way back to the controller.
        told_to_end: set when the board is told to end.
    """

    launch: str
    what: str
    board: str
    connection: Connection
    told_to_end: threading.Event
    doing: Doing = field(default_factory=Doing)

    def waits(self, sentence: str) -> None:
        """Say what the board waits for: to the controller, in the log, and with the heartbeat."""
        if (self.doing.state, self.doing.what) == ("waiting", sentence):
            return
        self.doing = Doing("waiting", sentence)
        log.warning(sentence)
        self.connection.waits(self.launch, sentence)

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            EndedError: the board was told to end, or the controller cannot be reached any more.
        """
        self.told_to_end.wait(seconds)
        if self._ended:
            raise EndedError(f"the board {self.board} was told to end")

    @property
    def _ended(self) -> bool:
        return self.told_to_end.is_set() or not self.connection.alive()

    @contextlib.contextmanager
    def measuring(self, temperature_c: float | None) -> Iterator[None]:
        """Workers measure inside; they end as soon as the board is told to end.

        Raises:
            EndedError: it was.
        """
        self.doing = Doing("measuring", self.what, temperature_c)
        done = threading.Event()

        def watch() -> None:
            seconds = LOOK_SECONDS
            while not done.wait(seconds):
                if self._ended:
                    end_workers()
                    seconds = END_AGAIN_SECONDS

        watcher = threading.Thread(target=watch, name="cspbench-board-end", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        self.pause(0.0)
