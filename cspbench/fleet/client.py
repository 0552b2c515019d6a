"""The controller's end of Dask: it lists the boards, sends them requests and waits for answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cspbench.core.text import first_line, printable
from cspbench.errors import InputError
from cspbench.fleet.agent import serve
from cspbench.fleet.answers import Answer, read_answer, short
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.security import security_for
from cspbench.fleet.versions import ignore_harmless
from cspbench.fleet.workers import Glance, glance, read_workers

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 15.0
#: How long a board that is lost is waited for, unless a cluster's file says otherwise.
RETURN_SECONDS = 120.0
#: How long a list of boards is used before it is read again. Events of Dask report changes sooner.
FRESH_SECONDS = 10.0
#: A request that no board has begun for so long is said to wait.
QUEUE_NOTE_SECONDS = 5.0
#: So many sentences of a board about one request are passed on.
MAX_SENTENCES = 50
#: Python 3.10 has several errors of this name; from 3.11 on all are OSErrors.
UNREACHABLE = (OSError, TimeoutError, asyncio.TimeoutError)


class LostRequestError(Exception):
    """The board or the connection to it went away before the answer came; the text says how."""


@dataclass
class PendingRequest:
    """A request that waits for its answer.

    ``changed`` wakes the waiting thread; ``began`` is when the board began the launch; ``lost``
    says how the board was lost; ``sentences`` says what the board waits for; ``done`` is set when
    the request is answered or given up.
    """

    launch: str
    board: BoardInfo
    future: Future | None = None
    changed: threading.Event = field(default_factory=threading.Event)
    began: float | None = None
    lost: str = ""
    sentences: list[str] = field(default_factory=list)
    done: bool = False


class FleetClient:
    """The connection of one controller to one scheduler.

    Args:
        address: of the scheduler.
        cluster: the Dask cluster object that the scheduler belongs to, if cspbench started one.
        connect_seconds: how long to try to reach it.
        return_seconds: how long a board that is lost is waited for.

    Raises:
        InputError: no scheduler answers at the address.
    """

    def __init__(
        self,
        address: str,
        cluster: Any = None,
        connect_seconds: float = CONNECT_SECONDS,
        return_seconds: float = RETURN_SECONDS,
    ) -> None:
        self.address, self.return_seconds = address, return_seconds
        self.session = uuid.uuid4().hex[:8]
        self.late: list[str] = []
        self._given_up: set[str] = set()
        self._cluster = cluster
        self._connect_seconds = connect_seconds
        self._security = cluster.security if cluster else security_for(address, "client")
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._changed = False
        self._pending: dict[str, PendingRequest] = {}
        self._boards: tuple[float, list[BoardInfo]] = (0.0, [])
        self._refused: list[str] = []
        self._client: Client | None = None
        self._event_comm: Any = None  # the connection that events come through
        ignore_harmless()
        try:
            self._connected()
        except UNREACHABLE as error:
            raise InputError(f"no Dask scheduler answers at {address}: {error}") from None

    # -- the scheduler ---------------------------------------------------------------------------

    def _connected(self) -> Client:
        """Return Dask's client; make a new one if the old one was closed.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        from distributed import Client

        with self._lock:
            if self._client is not None and self._client.status == "running":
                self._listen(self._client)
                return self._client
            if self._client is not None and self._client.status not in ("closed", "closing"):
                raise OSError("the connection to the scheduler was lost")
            self._client = Client(
                self._cluster or self.address,
                security=self._security,
                timeout=self._connect_seconds,
                set_as_default=False,
                name=f"cspbench-{self.session}",
            )
            self._listen(self._client)
            return self._client

    def _listen(self, client: Client) -> None:
        """Subscribe to the scheduler's events; Dask does not do so again after a reconnection."""
        if client.scheduler_comm is not self._event_comm:
            self._event_comm = client.scheduler_comm
            self._changed = True
            self._boards = (0.0, self._boards[1])
            for topic, handler in zip(
                self._topics, (self._on_worker, self._on_launch), strict=True
            ):
                client.subscribe_topic(topic, handler)

    @property
    def _topics(self) -> tuple[str, str]:
        return "all", f"cspbench-{self.session}"

    def close(self) -> None:
        """Close the connection; answers to requests under way are no longer read."""
        client = self._client
        if client is None:
            return
        with contextlib.suppress(Exception):
            for topic in self._topics:  # else the scheduler writes to a connection that is closed
                client.unsubscribe_topic(topic)
        with contextlib.suppress(Exception):
            client.close(timeout=5)

    def _on_worker(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action in ("add-worker", "remove-worker"):
            self._changed = True
            self._boards = (0.0, self._boards[1])
        if action == "remove-worker":
            self._mark_lost(lambda pending: pending.board.address == message.get("worker"),
                       "its agent stopped, or the scheduler lost sight of it")  # fmt: skip

    def _on_launch(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if not isinstance(message, dict):
            return
        pending = self._pending.get(str(message.get("launch")))
        # Dask notes which worker sent the event. A later event must not prolong the launch.
        own = pending is not None and message.get("worker") == pending.board.address
        if pending is None or not own:
            return
        if "waits" in message:
            if len(pending.sentences) < MAX_SENTENCES:
                pending.sentences.append(short(message["waits"]))
        elif pending.began is None:
            pending.began = time.monotonic()
        pending.changed.set()

    def _mark_lost(self, which: Callable[[PendingRequest], bool], how: str) -> None:
        for pending in list(self._pending.values()):
            if which(pending):
                pending.lost = how
                pending.changed.set()

    # -- boards ----------------------------------------------------------------------------------

    def boards(self) -> list[BoardInfo]:
        """Return the connected boards by name; `refused` says which workers are left out.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        with self._listing:  # one thread asks the scheduler, the others use its answer
            self._connected()  # first: without a scheduler there are no boards
            listed, boards = self._boards
            if time.monotonic() - listed > FRESH_SECONDS:
                self._changed = False  # an event may set it while the scheduler answers
                boards, self._refused = read_workers(self._workers())
                self._boards = (0.0 if self._changed else time.monotonic(), boards)
            return boards

    def _workers(self) -> Mapping[str, Mapping[str, Any]]:
        """What the scheduler reports of each worker, by address.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        client = self._connected()
        scheduler: Any = client.scheduler
        try:
            workers: dict[str, Any] = client.sync(scheduler.identity, n_workers=-1)["workers"]
        except UNREACHABLE as error:
            raise OSError(str(error)) from error
        return workers

    def glances(self) -> list[Glance]:
        """Return what each board does, as the scheduler heard of it last.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        workers = self._workers()
        boards, self._refused = read_workers(workers)
        try:
            now = float(self._connected().run_on_scheduler(time.time))  # its clock, not ours
        except UNREACHABLE as error:
            raise OSError(str(error)) from error
        return [glance(board, workers[board.address], now) for board in boards]

    @property
    def refused(self) -> list[str]:
        """Workers that cannot be used as boards: one sentence each that says why."""
        return self._refused

    # -- requests --------------------------------------------------------------------------------

    def new_launch(self) -> str:
        """Return a new launch id: the controller's session, a hyphen, and a random part."""
        return f"{self.session}-{uuid.uuid4().hex[:12]}"

    def ask(
        self,
        board: BoardInfo,
        request: str,
        *,
        data: bytes = b"",
        launch: str = "",
        seconds: float,
        queue_seconds: float,
        waits: Callable[[str], None] = lambda _sentence: None,
    ) -> Answer:
        """Send a request to a board and wait for its answer.

        Args:
            board: the board that answers.
            request: a message (`protocol.encode`).
            data: bytes of a file that belong to it.
            launch: id of the launch that it asks for.
            seconds: bound of the work, from when the board has begun it.
            queue_seconds: bound of the wait until the board begins.
            waits: called with a sentence that says what the request waits for.

        Raises:
            BadAnswerError: the board sent what is no answer.
            LostRequestError: the board or the scheduler went away, or no answer came in time.
        """
        pending = PendingRequest(launch or self.new_launch(), board)
        self._pending[pending.launch] = pending
        try:
            self._submit(pending, request, data)
            # A board that left before the request was registered causes no event here, and Dask
            # would wait for it for ever.
            if all(board.address != other.address for other in self.boards()):
                raise LostRequestError("its agent stopped, or the scheduler lost sight of it")
            return self._await(pending, seconds, queue_seconds, waits)
        except LostRequestError:
            self._given_up.add(pending.launch)
            raise
        except UNREACHABLE as error:
            self._given_up.add(pending.launch)
            raise LostRequestError(str(error)) from error
        finally:
            self._pending.pop(pending.launch, None)
            pending.done = True

    def _submit(self, pending: PendingRequest, request: str, data: bytes) -> None:
        client = self._connected()
        pending.future = client.submit(
            serve,
            request,
            *([data] if data else []),
            key=f"cspbench-{pending.launch}",
            workers=[pending.board.address],
            allow_other_workers=False,
            resources=dict(pending.board.resources) or None,
            pure=False,
            retries=0,
        )
        pending.future.add_done_callback(lambda _: self._on_done(pending))

    def _on_done(self, pending: PendingRequest) -> None:
        if pending.done:  # the request was given up: its answer is late and is not counted
            if pending.future is not None and pending.future.status == "finished":
                self.note_late([pending.launch])
            return
        pending.changed.set()

    def note_late(self, launches: Iterable[str]) -> None:
        """Count launches that answered after they were given up; other ids are ignored."""
        for launch in launches:
            if launch in self._given_up:
                self._given_up.remove(launch)
                self.late.append(launch)

    def _await(
        self,
        pending: PendingRequest,
        seconds: float,
        queue_seconds: float,
        waits: Callable[[str], None],
    ) -> Answer:
        future = pending.future
        assert future is not None
        submitted = time.monotonic()
        queued = submitted + QUEUE_NOTE_SECONDS
        while True:
            while pending.sentences:
                queued = float("inf")  # the board has the request and says itself what is going on
                waits(pending.sentences.pop(0))
            if pending.began is None:
                deadline, what = submitted + queue_seconds + seconds, "it never began"
            else:
                deadline, what = pending.began + seconds, f"no answer within {seconds:g} s"
            pause = min(deadline, queued if pending.began is None else deadline)
            pending.changed.wait(max(0.0, pause - time.monotonic()))
            pending.changed.clear()
            if pending.began is None and time.monotonic() >= queued and not future.done():
                queued = float("inf")
                waits("it is busy with another request; waiting for it, at most "
                      f"{queue_seconds:g} s")  # fmt: skip
            if pending.lost:
                raise LostRequestError(pending.lost)
            if future.done():
                return self._answer(pending)
            if time.monotonic() >= deadline:
                raise LostRequestError(what)

    def _answer(self, pending: PendingRequest) -> Answer:
        future = pending.future
        assert future is not None
        if future.status != "finished":
            raise LostRequestError(_why(future))
        try:
            text = future.result(timeout=self._connect_seconds)
        except Exception as error:  # the answer died with its board, after it was reported
            raise LostRequestError(
                f"its answer could not be fetched ({type(error).__name__})"
            ) from error
        return read_answer(text, pending.board.name)


def _why(future: Future) -> str:
    if future.status == "error":
        try:
            error = future.exception(timeout=5)
            return f"its agent failed: {type(error).__name__}: {printable(first_line(error))}"
        except Exception as unreadable:
            return f"its agent failed, and its error is unreadable ({type(unreadable).__name__})"
    return "the scheduler went away"
