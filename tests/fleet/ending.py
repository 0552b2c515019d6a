"""Requests to a board that is told to end, and whether all that it started ends in time."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import psutil

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet.executor import BoardExecutor, Files
from cspbench.jobs.time import TimeRequest
from cspbench.machine.lock import timing_lock
from cspbench.runner.block_request import BlockRequest
from tests.fleet.conftest import MODEL
from tests.fleet.machines import eventually

#: The promise.
SECONDS = 10.0


def board_of(fleet, kind):
    """Start a board as ``cspbench agent``, or as a worker of Dask with the preload."""
    if kind == "agent":
        return fleet.agent("a1")
    home = fleet.folder / "a1"
    (home / "lock").mkdir(parents=True)
    own = {"CSPBENCH_LOCK_DIR": str(home / "lock"), "CSPBENCH_CACHE": str(home / "cache")}
    nanny = ["--nanny"] if kind == "nanny" else ["--no-nanny"]
    return fleet.start(
        "a1", sys.executable, "-m", "distributed.cli.dask_worker", fleet.address, "--nthreads",
        "1", *nanny, "--preload", "cspbench.fleet.agent", "--no-dashboard",
        "--dashboard-address", "127.0.0.1:0", "--memory-limit", "0",
        CSPBENCH_BOARD="a1", **own,
    )  # fmt: skip


class Request:
    """A request to the board a1 from a thread of its own; ``outcomes`` are there once it ends."""

    def __init__(self, client, exported, *options, alone=False):
        self.waits = []
        [board] = client.boards()
        executor = BoardExecutor(
            client, board, Files(), threading.Event(), board_seconds=0.0,
            waits=lambda name, sentence: self.waits.append(sentence),
        )  # fmt: skip
        artifact = exported["pt2"]
        arms = tuple(
            TimeRequest(
                case=Case.parse(f"{MODEL}/fake[{option}]/b1/t1"), artifact=artifact.path,
                reference=artifact.reference, warmup_seconds=0.01, max_seconds=300.0,
            )
            for option in options
        )  # fmt: skip
        self.outcomes = []

        def ask():
            block = BlockRequest("0", arms, None if alone else 0, "seed", 0)
            self.outcomes += [outcome for _, outcome in executor.block(block, 300.0)]

        self.thread = threading.Thread(target=ask, daemon=True)
        self.thread.start()

    def lost(self):
        """Whether each launch that was asked for is lost, and none failed."""
        self.thread.join(30)
        return bool(self.outcomes) and {one.status for one in self.outcomes} == {Status.LOST}


def family(process):
    """A process and all that it started, now."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def living(processes):
    return [one for one in processes if _lives(one)]


def _lives(process):
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def names(processes):
    found = []
    for one in processes:
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(one.cmdline()))
    return found


def ended_in_time(processes, seconds=SECONDS):
    """Whether all of the processes end within ten seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not living(processes):
            return True
        time.sleep(0.1)
    return False


def lock_is_free(fleet, monkeypatch):
    """Whether the board's lock is free now, or in a moment: a thread may outlive its workers."""
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(fleet.folder / "a1" / "lock"))
    with timing_lock("a test", seconds=2.0):
        return True


def end(process, number):
    """Tell a board to end; returns what it had started."""
    processes = family(process)
    process.send_signal(number)
    threading.Thread(target=process.wait, daemon=True).start()  # no zombie of ours
    return processes


def at_work(fleet, board, request):
    """Wait until the cases have loaded: each leaves a child behind then, which sleeps."""
    eventually(lambda: "sleep 1000" in "".join(names(family(board))) or request.outcomes)
    assert not request.outcomes, request.outcomes
    processes = family(board)
    assert sum("cspbench.jobs.worker" in name for name in names(processes)) >= 1
    return processes
