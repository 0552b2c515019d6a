"""Which workers of a scheduler are boards, and what the scheduler heard of them last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cspbench.core.bounds import MOST
from cspbench.core.text import printable
from cspbench.fleet.agent import ANNOUNCEMENT, RESOURCE
from cspbench.fleet.answers import Now, read_now
from cspbench.fleet.devices import BoardInfo, read_board
from cspbench.fleet.protocol import ProtocolError

#: Longest address of a worker: a host's name has at most 253 characters.
MAX_ADDRESS = 300
#: Of two workers of one board name, the one that was silent this much longer is dead.
SILENT_SECONDS = 10.0


@dataclass(frozen=True)
class Glance:
    """A board as the scheduler heard of it last.

    now: what the board does; None if it does not say. silent_seconds: how long ago that was.
    """

    board: BoardInfo
    now: Now | None
    silent_seconds: float


def glance(board: BoardInfo, worker: Mapping[str, Any], now: float) -> Glance:
    """A board by what the scheduler reports of its worker.

    Args:
        board: the board.
        worker: the facts of its worker.
        now: the scheduler's time.
    """
    metrics = worker.get("metrics")
    said = metrics.get(ANNOUNCEMENT) if isinstance(metrics, Mapping) else None
    return Glance(board, read_now(said, board.name), max(0.0, now - _last_seen(worker)))


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
