"""The board's end of Dask: a worker with one thread, and the one function that it runs.

``dask_setup`` makes a board of any Dask worker that is started with
``--preload cspbench.fleet.agent``; ``cspbench agent`` starts such a worker and keeps it connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from cspbench.fleet.board import Board, Settings
from cspbench.fleet.protocol import encode
from cspbench.fleet.security import listening_host, security_for

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


def serve(request: str, data: bytes = b"") -> str:
    """Answer a request of a controller; Dask calls this function on the board."""
    from distributed import get_worker

    worker = get_worker()
    board = _boards.get(worker.id)
    if board is None:
        reason = f"worker {worker.name} is not a board: start it with cspbench agent"
        return encode("answer", {"status": "refused", "reason": reason})

    def began(launch: str) -> None:
        worker.log_event(topic(launch), {"launch": launch})

    return board.serve(request, data, began, delivered=lambda: worker.status.name == "running")


def topic(launch: str) -> str:
    """The event topic on which the start of a launch is reported to its controller."""
    return f"cspbench-{launch.partition('-')[0]}"


def dask_setup(worker: Worker) -> None:
    """Make a board of a Dask worker; called by Dask before the worker registers."""
    make_board(worker, Board(Settings.from_environment()))


def make_board(worker: Worker, board: Board) -> None:
    """Attach a board to a worker that has not registered with its scheduler yet."""
    _boards[worker.id] = board
    worker.startup_information[ANNOUNCEMENT] = lambda _: board.announce()


def resources(board: Board) -> dict[str, float]:
    """The board's devices as exclusive Dask resources."""
    import json

    return {RESOURCE + device: 1.0 for device in json.loads(board.announce())["devices"]}


async def stay(address: str, board: Board) -> None:
    """Work for a scheduler for ever; reconnect after every lost connection.

    Raises:
        InputError: the certificates of a TLS address are not set.
    """
    security = security_for(address, "worker")
    pause, longest = RETRY_SECONDS
    while True:
        try:
            await work(address, board, security)
            pause = RETRY_SECONDS[0]
        except (OSError, RuntimeError, asyncio.TimeoutError) as error:
            log.warning("no scheduler at %s (%s); trying again in %.0f s", address, error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def work(address: str, board: Board, security: Any = None) -> None:
    """Be a worker of a scheduler until the connection ends.

    Raises:
        OSError: the scheduler cannot be reached.
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
        )
        make_board(worker, board)
        try:
            async with worker:
                log.warning("%s works for %s", board.settings.name, address)
                await worker.finished()
        finally:
            with contextlib.suppress(KeyError):
                del _boards[worker.id]
