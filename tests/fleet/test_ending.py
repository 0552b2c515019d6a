"""A board that is told to end ends within ten seconds, in whatever it is busy with.

With it end its workers and what they started, and the machine's timing lock is free again.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time

import psutil
import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet.artifacts import chunks
from cspbench.fleet.executor import BoardExecutor, Files
from cspbench.fleet.protocol import encode
from cspbench.jobs.time import TimeRequest
from cspbench.machine.lock import timing_lock
from cspbench.runner.block_request import BlockRequest
from tests.fleet.conftest import MODEL
from tests.fleet.machines import eventually, machines

pytestmark = pytest.mark.slow
#: The promise.
SECONDS = 10.0
SIGNALS = [signal.SIGTERM, signal.SIGINT]
BY_SIGNAL = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture
def fleet(exported, tmp_path):
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        yield fleet


@pytest.fixture
def worker_of(fleet):
    """Start a board as ``cspbench agent``, or as a worker of Dask with the preload."""

    def start(kind):
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

    return start


KINDS = pytest.mark.parametrize("kind", ["agent", "worker", "nanny"])


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
            if alone:
                self.outcomes.append(executor.launch(arms[0], 1, 300.0))
            else:
                block = BlockRequest("0", arms, 0, "seed", 0)
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
    return [one for one in processes if one.is_running() and one.status() != "zombie"]


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


# -- nothing under way ---------------------------------------------------------------------------


@BY_SIGNAL
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_while_it_tries_to_connect(exported, tmp_path, number, silent):
    """To a port where nothing listens, and to one that accepts and never says a word."""
    with machines(tmp_path) as fleet, socket.socket() as listener:
        if silent:
            listener.bind(("127.0.0.1", fleet.port))
            listener.listen(5)
        agent = fleet.agent("a1")
        eventually(lambda: "connecting to the scheduler" in fleet.log("a1"))
        time.sleep(2)
        assert ended_in_time(end(agent, number)), fleet.log("a1")
        assert agent.wait(5) == 130
        assert "Traceback" not in fleet.log("a1")


def test_an_agent_gives_up_when_it_is_told_how_long_to_try(exported, tmp_path):
    with machines(tmp_path) as fleet:
        agent = fleet.agent("a1", "--give-up", "2")
        assert agent.wait(60) == 3
        assert "gave up after 2 s" in fleet.log("a1")


@KINDS
@BY_SIGNAL
def test_while_it_is_idle(fleet, connect, worker_of, kind, number):
    board = worker_of(kind)
    connect(fleet.address, boards=1)
    assert ended_in_time(end(board, number)), fleet.log("a1")


# -- under way -----------------------------------------------------------------------------------


@KINDS
@BY_SIGNAL
def test_while_it_waits_for_the_timing_lock(fleet, connect, exported, worker_of, monkeypatch,
                                            kind, number):  # fmt: skip
    board = worker_of(kind)
    client = connect(fleet.address, boards=1)
    with held(fleet, monkeypatch):
        request = Request(client, exported, "ms=1", "ms=2")
        eventually(lambda: any("another run measures" in said for said in request.waits))
        assert ended_in_time(end(board, number)), fleet.log("a1")
    assert request.lost(), request.outcomes
    assert lock_is_free(fleet, monkeypatch)


@contextlib.contextmanager
def held(fleet, monkeypatch):
    """The board's timing lock is another run's."""
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(fleet.folder / "a1" / "lock"))
    with timing_lock("a local run"):
        yield


def at_work(fleet, board, request, sleeping=1):
    """Wait until the cases have loaded: each leaves a child behind then, which sleeps."""
    eventually(lambda: "sleep 1000" in "".join(names(family(board))) or request.outcomes)
    assert not request.outcomes, request.outcomes
    processes = family(board)
    assert sum("cspbench.jobs.worker" in name for name in names(processes)) >= 1
    return processes


@KINDS
@BY_SIGNAL
@pytest.mark.parametrize("alone", [True, False], ids=["launch", "block"])
def test_while_it_measures(fleet, connect, exported, worker_of, monkeypatch, kind, number, alone):
    """Its workers end, and the processes that these started."""
    board = worker_of(kind)
    client = connect(fleet.address, boards=1)
    cases = ["do=child,ms=20"] if alone else ["do=child,ms=20", "do=child,ms=30"]
    request = Request(client, exported, *cases, alone=alone)
    processes = at_work(fleet, board, request)
    end(board, number)
    assert ended_in_time(processes), names(living(processes))
    assert request.lost(), request.outcomes
    assert lock_is_free(fleet, monkeypatch)


@BY_SIGNAL
def test_while_a_case_hangs_in_its_library(fleet, connect, exported, worker_of, number):
    board = worker_of("agent")
    client = connect(fleet.address, boards=1)
    Request(client, exported, "do=hang-in-c", "ms=2")
    eventually(lambda: len(family(board)) >= 3)
    processes = family(board)
    end(board, number)
    assert ended_in_time(processes), names(living(processes))


@BY_SIGNAL
def test_while_it_waits_for_artifacts(fleet, connect, exported, worker_of, number):
    """It said which files it lacks, and has a part of one."""
    from dataclasses import asdict

    board = worker_of("agent")
    client = connect(fleet.address, boards=1)
    files = Files()
    items = files.pair(str(exported["pt2"].path), str(exported["pt2"].reference))
    [info] = client.boards()
    offset, data = next(chunks(files.path(items[0])))
    request = encode("put", {"item": asdict(items[0]), "offset": offset})
    answer = client.ask(info, request, data=data[:1000], seconds=30, queue_seconds=30)
    assert answer.status == "ok"
    assert ended_in_time(end(board, number)), fleet.log("a1")


# -- the scheduler's close -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["worker", "nanny"])
def test_a_worker_with_the_preload_ends_with_its_scheduler(fleet, connect, exported, worker_of,
                                                           kind):  # fmt: skip
    board = worker_of(kind)
    client = connect(fleet.address, boards=1)
    request = Request(client, exported, "do=child,ms=20", "do=child,ms=30")
    processes = at_work(fleet, board, request)
    threading.Thread(target=board.wait, daemon=True).start()
    fleet.processes["scheduler"].send_signal(signal.SIGTERM)
    assert ended_in_time(processes), (names(living(processes)), fleet.log("a1"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["closed", "killed"])
def test_an_agent_drops_its_work_with_the_scheduler_and_waits_for_the_next(
    fleet, connect, exported, worker_of, monkeypatch, how
):
    board = worker_of("agent")
    client = connect(fleet.address, boards=1)
    request = Request(client, exported, "do=child,ms=20", "do=child,ms=30")
    processes = [one for one in at_work(fleet, board, request) if one.pid != board.pid]
    fleet.kill("scheduler", how)
    assert ended_in_time(processes), (names(living(processes)), fleet.log("a1"))
    assert board.poll() is None
    assert lock_is_free(fleet, monkeypatch)
    fleet.scheduler()
    again = connect(fleet.address, boards=1)
    fresh = Request(again, exported, "do=child,ms=20", alone=True)
    at_work(fleet, board, fresh)  # and it works again
