"""The controller's end of Dask: it lists the boards, sends them requests and waits for answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cspbench.core.bounds import MOST
from cspbench.core.text import first_line, printable
from cspbench.errors import InputError
from cspbench.fleet.agent import ANNOUNCEMENT, RESOURCE, serve
from cspbench.fleet.answers import Answer, read_answer
from cspbench.fleet.devices import BoardInfo, read_board
from cspbench.fleet.protocol import ProtocolError
from cspbench.fleet.security import security_for

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 15.0
#: How long a list of boards is used before it is read again. Events of Dask report changes sooner.
FRESH_SECONDS = 10.0
#: Longest address of a worker: a host's name has at most 253 characters.
MAX_ADDRESS = 300
#: Of two workers of one board name, the one that was silent this much longer is dead.
SILENT_SECONDS = 10.0
#: Python 3.10 has several errors of this name; from 3.11 on all are OSErrors.
UNREACHABLE = (OSError, TimeoutError, asyncio.TimeoutError)


class LostRequestError(Exception):
    """The board or the connection to it went away before the answer came; the text says how."""


@dataclass
class PendingRequest:
    """A request that waits for its answer.

    ``changed`` wakes the waiting thread; ``began`` is when the board began the launch; ``lost``
    says how the board was lost; ``done`` is set when the request is answered or given up.
    """

    launch: str
    board: BoardInfo
    future: Future | None = None
    changed: threading.Event = field(default_factory=threading.Event)
    began: float | None = None
    lost: str = ""
    done: bool = False


class FleetClient:
    """The connection of one controller to one scheduler.

    Args:
        address: of the scheduler.
        cluster: the Dask cluster object that the scheduler belongs to, if cspbench started one.
        connect_seconds: how long to try to reach it.

    Raises:
        InputError: no scheduler answers at the address.
    """

    def __init__(
        self, address: str, cluster: Any = None, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self.address = address
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
            client.subscribe_topic("all", self._on_worker)
            client.subscribe_topic(f"cspbench-{self.session}", self._on_launch)

    def close(self) -> None:
        """Close the connection; answers to requests under way are no longer read."""
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
            self._mark_lost(lambda pending: pending.board.address == message.get("worker"),
                       "its agent stopped, or the scheduler lost sight of it")  # fmt: skip

    def _on_launch(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if not isinstance(message, dict):
            return
        pending = self._pending.get(str(message.get("launch")))
        # Dask notes which worker sent the event. A later event must not prolong the launch.
        own = pending is not None and message.get("worker") == pending.board.address
        if pending is not None and own and pending.began is None:
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
            client = self._connected()  # first: without a scheduler there are no boards
            listed, boards = self._boards
            if time.monotonic() - listed > FRESH_SECONDS:
                scheduler: Any = client.scheduler
                self._changed = False  # an event may set it while the scheduler answers
                try:
                    workers = client.sync(scheduler.identity, n_workers=-1)["workers"]
                except UNREACHABLE as error:
                    raise OSError(str(error)) from error
                boards, self._refused = read_workers(workers)
                self._boards = (0.0 if self._changed else time.monotonic(), boards)
            return boards

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
    ) -> Answer:
        """Send a request to a board and wait for its answer.

        Args:
            board: the board that answers.
            request: a message (`protocol.encode`).
            data: bytes of a file that belong to it.
            launch: id of the launch that it asks for.
            seconds: bound of the work, from when the board has begun it.
            queue_seconds: bound of the wait until the board begins.

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
            return self._await(pending, seconds, queue_seconds)
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

    def _await(self, pending: PendingRequest, seconds: float, queue_seconds: float) -> Answer:
        future = pending.future
        assert future is not None
        submitted = time.monotonic()
        while True:
            if pending.began is None:
                deadline, what = submitted + queue_seconds + seconds, "it never began"
            else:
                deadline, what = pending.began + seconds, f"no answer within {seconds:g} s"
            pending.changed.wait(max(0.0, deadline - time.monotonic()))
            pending.changed.clear()
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


def read_workers(
    workers: Mapping[str, Mapping[str, Any]],
) -> tuple[list[BoardInfo], list[str]]:
    """Find the boards among the workers of a scheduler.

    Args:
        workers: by address, the facts that the scheduler reports of each worker.

    Returns:
        the boards by name, and for each worker that is refused as a board one sentence.
    """
    boards, refused = [], []
    last_seen: dict[str, float] = {}
    for address, worker in workers.items():
        if ANNOUNCEMENT not in worker:
            continue  # a worker of another application
        try:
            if not address.isprintable() or len(address) > MAX_ADDRESS:
                raise ValueError("its address is no address")
            board = read_board(worker[ANNOUNCEMENT], address, _resources(worker))
            last_seen[address] = _last_seen(worker)
            threads = _threads(worker)
        except ProtocolError as error:
            refused.append(printable(str(error)))
        except ValueError as error:
            place = address[:MAX_ADDRESS]
            what = f"the announcement of the agent at {place} is malformed: {error}"
            refused.append(printable(what))
        else:
            if threads == 1:
                boards.append(board)
            else:
                refused.append(
                    f"the worker of board {board.name} has {threads} threads, but a board runs one "
                    "launch at a time: start it with one thread"
                )
    living = _living(boards, last_seen)
    refused += [
        f"the agent of board {board.name} at {board.address} is silent, and another one of this "
        "name is not: it is taken for dead"
        for board in boards
        if board not in living
    ]
    return sorted(living, key=lambda board: board.name), refused


def _resources(worker: Mapping[str, Any]) -> dict[str, float]:
    """The devices of a worker as Dask resources.

    Raises:
        ValueError: they are malformed.
    """
    owned = worker.get("resources") or {}
    if not isinstance(owned, Mapping):
        raise ValueError("its resources are no mapping")
    devices = {name: number for name, number in owned.items() if str(name).startswith(RESOURCE)}
    if any(number != 1 for number in devices.values()):
        raise ValueError("a device is a resource of 1")
    return devices


def _threads(worker: Mapping[str, Any]) -> int:
    """Number of threads of a worker.

    Raises:
        ValueError: it is no number of threads.
    """
    threads = worker.get("nthreads")
    if not isinstance(threads, int) or not 0 < threads < 10**6:
        raise ValueError("nthreads is no number of threads")
    return threads


def _last_seen(worker: Mapping[str, Any]) -> float:
    """When the scheduler last heard of a worker.

    Raises:
        ValueError: it is no time. A worker can replace what the scheduler reports of it.
    """
    seen = worker.get("last_seen", 0)
    if not isinstance(seen, int | float) or not 0 <= seen < MOST:
        raise ValueError("last_seen is no time")
    return float(seen)


def _living(boards: Sequence[BoardInfo], last_seen: Mapping[str, float]) -> list[BoardInfo]:
    """Drop dead workers of boards that restarted before the scheduler missed them."""
    newest: dict[str, float] = {}
    for board in boards:
        newest[board.name] = max(newest.get(board.name, 0.0), last_seen[board.address])
    return [b for b in boards if last_seen[b.address] >= newest[b.name] - SILENT_SECONDS]
