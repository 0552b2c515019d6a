"""The controller's end of Dask: which boards there are, requests to them, what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cspbench.errors import InputError
from cspbench.fleet.agent import ANNOUNCEMENT, RESOURCE, serve
from cspbench.fleet.devices import BoardInfo, read_announcement
from cspbench.fleet.protocol import Json, ProtocolError, decode
from cspbench.fleet.security import security_for

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 15.0
#: How long the boards are taken for as they were; changes are told by events besides.
FRESH_SECONDS = 10.0
#: Of two workers of one board, one that was silent so much longer is what is left of it.
SILENT_SECONDS = 10.0
#: Python 3.10 has several errors of this name; from 3.11 on all are OSErrors.
UNREACHABLE = (OSError, TimeoutError, asyncio.TimeoutError)


class Lost(Exception):
    """The board, or the way to it, went away before the answer came; says how."""


@dataclass
class Ticket:
    """A request under way."""

    launch: str
    board: BoardInfo
    future: Future | None = None
    changed: threading.Event = field(default_factory=threading.Event)
    began: float | None = None
    lost: str = ""
    done: bool = False


class Hub:
    """One controller at one scheduler.

    Args:
        address: of the scheduler.
        cluster: a cluster of Dask's own that the scheduler belongs to.
        connect_seconds: how long to try to reach it.
    """

    def __init__(
        self, address: str, cluster: Any = None, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self.address = address
        self.session = uuid.uuid4().hex[:8]
        self.late: list[str] = []
        self._cluster = cluster
        self._connect_seconds = connect_seconds
        self._security = cluster.security if cluster else security_for(address, "client")
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._changed = False
        self._tickets: dict[str, Ticket] = {}
        self._boards: tuple[float, list[BoardInfo]] = (0.0, [])
        self._refused: list[str] = []
        self._client: Client | None = None
        self._heard: Any = None  # the connection that events come through
        try:
            self._connected()
        except UNREACHABLE as error:
            raise InputError(f"no Dask scheduler answers at {address}: {error}") from None

    # -- the scheduler ---------------------------------------------------------------------------

    def _connected(self) -> Client:
        """The client, made anew where it was lost.

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
        """Ask the scheduler for events, again after it was lost: Dask does not do that itself."""
        if client.scheduler_comm is not self._heard:
            self._heard = client.scheduler_comm
            self._changed = True
            self._boards = (0.0, self._boards[1])
            client.subscribe_topic("all", self._on_worker)
            client.subscribe_topic(f"cspbench-{self.session}", self._on_launch)

    def close(self) -> None:
        """Leave the scheduler; what is under way there is of no interest any more."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=5)

    def _on_worker(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action in ("add-worker", "remove-worker"):
            self._changed = True
            self._boards = (0.0, self._boards[1])
        if action == "remove-worker":
            self._lose(lambda ticket: ticket.board.address == message.get("worker"),
                       "its agent stopped, or the scheduler lost sight of it")  # fmt: skip

    def _on_launch(self, event: tuple[float, Any]) -> None:
        ticket = self._tickets.get(str(event[1].get("launch")))
        if ticket is not None:
            ticket.began = time.monotonic()
            ticket.changed.set()

    def _lose(self, which: Callable[[Ticket], bool], how: str) -> None:
        for ticket in list(self._tickets.values()):
            if which(ticket):
                ticket.lost = how
                ticket.changed.set()

    # -- boards ----------------------------------------------------------------------------------

    def boards(self) -> list[BoardInfo]:
        """Boards that are there now, by name; those that speak another protocol are left out.

        Raises:
            OSError: the scheduler cannot be reached.
        """
        with self._asking:  # one asks, the others wait for what it hears
            client = self._connected()  # first: without a scheduler there are no boards
            taken, boards = self._boards
            if time.monotonic() - taken > FRESH_SECONDS:
                scheduler: Any = client.scheduler
                self._changed = False  # an event sets it meanwhile
                try:
                    workers = client.sync(scheduler.identity, n_workers=-1)["workers"]
                except UNREACHABLE as error:
                    raise OSError(str(error)) from error
                boards, self._refused = read_workers(workers)
                self._boards = (0.0 if self._changed else time.monotonic(), boards)
            return boards

    @property
    def refused(self) -> list[str]:
        """Why workers of this scheduler are not taken for boards, a sentence each."""
        return self._refused

    # -- requests --------------------------------------------------------------------------------

    def new_launch(self) -> str:
        """An id for a launch: the controller's session, and the launch's own."""
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
    ) -> Json:
        """Send a request to a board and wait for its answer.

        Args:
            board: whom to ask.
            request: a message.
            data: bytes that belong to it.
            launch: id of the launch that it asks for.
            seconds: bound of the work, from when the board has begun it.
            queue_seconds: bound of the wait until it begins.

        Raises:
            Lost: the board, the scheduler or the answer did not come back in time.
        """
        ticket = Ticket(launch or self.new_launch(), board)
        self._tickets[ticket.launch] = ticket
        try:
            self._submit(ticket, request, data)
            # Gone before the ticket was there: no event will tell, and Dask would wait for ever.
            if all(board.address != other.address for other in self.boards()):
                raise Lost("its agent stopped, or the scheduler lost sight of it")
            return self._await(ticket, seconds, queue_seconds)
        except (*UNREACHABLE, ProtocolError) as error:
            raise Lost(str(error)) from error
        finally:
            self._tickets.pop(ticket.launch, None)
            ticket.done = True

    def _submit(self, ticket: Ticket, request: str, data: bytes) -> None:
        client = self._connected()
        ticket.future = client.submit(
            serve,
            request,
            *([data] if data else []),
            key=f"cspbench-{ticket.launch}",
            workers=[ticket.board.address],
            allow_other_workers=False,
            resources=dict(ticket.board.resources) or None,
            pure=False,
            retries=0,
        )
        ticket.future.add_done_callback(lambda _: self._on_done(ticket))

    def _on_done(self, ticket: Ticket) -> None:
        if ticket.done:  # given up before: not to be counted again
            if ticket.future is not None and ticket.future.status == "finished":
                self.late.append(ticket.launch)
            return
        ticket.changed.set()

    def _await(self, ticket: Ticket, seconds: float, queue_seconds: float) -> Json:
        future = ticket.future
        assert future is not None
        submitted = time.monotonic()
        while True:
            if ticket.began is None:
                deadline, what = submitted + queue_seconds + seconds, "it never began"
            else:
                deadline, what = ticket.began + seconds, f"no answer within {seconds:g} s"
            ticket.changed.wait(max(0.0, deadline - time.monotonic()))
            ticket.changed.clear()
            if ticket.lost:
                raise Lost(ticket.lost)
            if future.done():
                return self._answer(ticket)
            if time.monotonic() >= deadline:
                raise Lost(what)

    def _answer(self, ticket: Ticket) -> Json:
        future = ticket.future
        assert future is not None
        if future.status != "finished":
            raise Lost(_why(future))
        try:
            text = future.result(timeout=self._connect_seconds)
        except Exception as error:  # the answer died with its board, after it was reported
            raise Lost(f"its answer could not be fetched ({type(error).__name__})") from error
        return decode(text, f"the board {ticket.board.name}")


def _why(future: Future) -> str:
    if future.status == "error":
        error = future.exception(timeout=5)
        return f"its agent failed: {type(error).__name__}: {error}"[:500]
    return "the scheduler went away"


def read_workers(
    workers: Mapping[str, Mapping[str, Any]],
) -> tuple[list[BoardInfo], list[str]]:
    """Boards among the workers of a scheduler, by name.

    Args:
        workers: what the scheduler tells of each, by address.

    Returns:
        the boards, and why others that would be boards are not taken, a sentence each.
    """
    boards, refused = [], []
    for address, worker in workers.items():
        if ANNOUNCEMENT not in worker:
            continue  # somebody else's
        owned = {
            name: float(number)
            for name, number in (worker.get("resources") or {}).items()
            if name.startswith(RESOURCE)
        }
        try:
            board = read_announcement(worker[ANNOUNCEMENT], address, owned)
        except ProtocolError as error:
            refused.append(str(error))
        except (KeyError, TypeError, ValueError) as error:
            refused.append(f"the agent at {address} announces no board: {error!r}")
        else:
            if worker.get("nthreads") == 1:
                boards.append(board)
            else:
                refused.append(
                    f"the worker of {board.name} has {worker.get('nthreads')} threads, and a board "
                    "does one launch at a time: start it with one thread"
                )
    return sorted(_living(boards, workers), key=lambda board: board.name), refused


def _living(
    boards: Sequence[BoardInfo], workers: Mapping[str, Mapping[str, Any]]
) -> list[BoardInfo]:
    """Without what a board left behind that went down and came back before it was missed."""
    seen = {board.address: float(workers[board.address].get("last_seen", 0)) for board in boards}
    newest: dict[str, float] = {}
    for board in boards:
        newest[board.name] = max(newest.get(board.name, 0.0), seen[board.address])
    return [b for b in boards if seen[b.address] >= newest[b.name] - SILENT_SECONDS]
