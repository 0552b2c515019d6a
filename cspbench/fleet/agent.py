"""The board's end of Dask: a worker with one thread, and the one function that it runs.

``dask_setup`` makes a board of any Dask worker that is started with
``--preload cspbench.fleet.agent``; ``cspbench agent`` starts such a worker and keeps it connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from cspbench.core.statuses import ExitCode
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.doing import Connection
from cspbench.fleet.protocol import encode
from cspbench.fleet.security import listening_host, security_for
from cspbench.fleet.versions import ignore_harmless
from cspbench.runner.process import end_workers

if TYPE_CHECKING:
    from distributed.worker import Worker

log = logging.getLogger("cspbench.agent")
#: Key in a worker's identity that holds the board's announcement.
ANNOUNCEMENT = "cspbench"
#: Prefix of the exclusive resources, one for each device.
RESOURCE = "cspbench:"
#: Boards by the id of their worker. An agent has one, a simulation many.
_boards: dict[str, Board] = {}
#: Dask's monitors of a worker are switched off, because they would disturb measurements.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.diagnostics.nvml": False,
    "distributed.worker.http.routes": [],
}
RETRY_SECONDS = (1.0, 10.0)
#: How long one try to reach a scheduler may take; between two tries the agent says that it waits.
CONNECT_SECONDS = 30.0
#: How long saying goodbye to a scheduler may take.
CLOSE_SECONDS = 3.0
#: A process that was told to end and still lives after so many seconds ends at once.
END_SECONDS = 8.0
#: Both mean: end. ``scancel`` sends the second one.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: States of a Dask worker whose answers reach the scheduler.
ALIVE = ("running", "paused", "closing_gracefully")


def serve(request: str, data: bytes = b"") -> str:
    """Answer a request of a controller; Dask calls this function on the board."""
    from distributed import get_worker

    worker = get_worker()
    board = _boards.get(worker.id)
    if board is None:
        reason = f"worker {worker.name} is not a board: start it with cspbench agent"
        return encode("answer", {"status": "refused", "reason": reason})

    def report(launch: str, **event: str) -> None:
        worker.log_event(topic(launch), {"launch": launch, **event})

    connection = Connection(
        began=report,
        waits=lambda launch, sentence: report(launch, waits=sentence),
        alive=lambda: worker.status.name in ALIVE,
    )
    return board.serve(request, data, connection)


def topic(launch: str) -> str:
    """The event topic on which what happens to a launch is reported to its controller."""
    return f"cspbench-{launch.partition('-')[0]}"


def dask_setup(worker: Worker) -> None:
    """Make a board of a Dask worker; called by Dask before the worker registers."""
    board = Board(Settings.from_environment())
    ignore_harmless()
    make_board(worker, board)
    end_with_signals(board)


def make_board(worker: Worker, board: Board) -> None:
    """Attach a board to a worker that has not registered with its scheduler yet."""
    _boards[worker.id] = board
    worker.startup_information[ANNOUNCEMENT] = lambda _: board.announce()
    worker.metrics[ANNOUNCEMENT] = lambda _: board.now()


def end_with_signals(board: Board) -> None:
    """End a board's work when its process is told to end; then the process ends as it would have.

    Dask's own handlers close the worker, but they know nothing of processes that a task started.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # Python has no handlers there; the process belongs to another program

    def chain(number: int) -> None:
        before = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None) -> None:
            board.end()
            end_for_certain()
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        signal.signal(number, handle)

    for number in SIGNALS:
        chain(number)


def end_for_certain() -> None:
    """End this process after END_SECONDS, if it is still there."""

    def end() -> None:
        end_workers()
        os._exit(ExitCode.INTERRUPTED)

    timer = threading.Timer(END_SECONDS, end)
    timer.daemon = True
    timer.start()


def resources(board: Board) -> dict[str, float]:
    """The board's devices as exclusive Dask resources."""
    return {RESOURCE + device: 1.0 for device in json.loads(board.announce())["devices"]}


async def stay(address: str, board: Board, give_up_seconds: float | None = None) -> None:
    """Work for a scheduler until SIGINT or SIGTERM; reconnect after every lost connection.

    Args:
        address: of the scheduler.
        board: does the work.
        give_up_seconds: end when no scheduler was reached for so long; None never gives up.

    Raises:
        InputError: the certificates of a TLS address are not set.
        OSError: no scheduler was reached for ``give_up_seconds``.
    """
    security = security_for(address, "worker")
    ignore_harmless()
    this = asyncio.current_task()
    assert this is not None

    def end(task: asyncio.Task[None] = this) -> None:
        board.end()
        end_for_certain()
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await _reconnect(address, board, security, give_up_seconds)


async def _reconnect(
    address: str, board: Board, security: Any, give_up_seconds: float | None
) -> None:
    pause, longest = RETRY_SECONDS
    reached = time.monotonic()

    def connected() -> None:
        nonlocal reached, pause
        reached, pause = float("inf"), RETRY_SECONDS[0]

    while True:
        log.warning("connecting to the scheduler at %s", address)
        try:
            await work(address, board, security, connected)
            reason = "the connection ended"
        except (OSError, RuntimeError, asyncio.TimeoutError) as error:
            reason = f"no scheduler answers: {error}"
        reached = min(reached, time.monotonic())
        if give_up_seconds is not None and time.monotonic() - reached >= give_up_seconds:
            raise OSError(f"{reason}; gave up after {give_up_seconds:g} s")
        log.warning("%s: %s; trying again in %.0f s", address, reason, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def work(
    address: str,
    board: Board,
    security: Any = None,
    connected: Callable[[], None] = lambda: None,
) -> None:
    """Be a worker of a scheduler until the connection ends.

    Args:
        address: of the scheduler.
        board: does the work.
        security: Dask's, for a TLS address.
        connected: called once the scheduler knows the board.

    Raises:
        OSError: the scheduler cannot be reached.
        TimeoutError: it did not answer in time.
    """
    import dask
    from distributed import Worker

    with dask.config.set(QUIET):
        worker = Worker(
            address,
            nthreads=1,
            name=f"{board.settings.name}-{board.session}",
            resources=resources(board),
            security=security,
            host=listening_host(address),
            memory_limit=0,
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            heartbeat_interval="1s",
            death_timeout=CONNECT_SECONDS,
        )
        make_board(worker, board)
        try:
            await worker
            connected()
            log.warning("%s works for %s", board.settings.name, address)
            await worker.finished()
        finally:
            _boards.pop(worker.id, None)
            # Without waiting for its thread: that ends by itself, because the worker is closed.
            with contextlib.suppress(OSError, RuntimeError, asyncio.TimeoutError):
                closing = worker.close(timeout=CLOSE_SECONDS, executor_wait=False)
                await asyncio.wait_for(closing, 2 * CLOSE_SECONDS)
