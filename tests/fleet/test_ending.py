"""A board that is told to end ends within ten seconds, in whatever it is busy with.

With it end its workers and what they started, and the machine's timing lock is free again.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time

import pytest

from cspbench.fleet.artifacts import chunks
from cspbench.fleet.executor import Files
from cspbench.fleet.protocol import encode
from cspbench.machine.lock import timing_lock
from tests.fleet.ending import (
    Request,
    at_work,
    board_of,
    end,
    ended_in_time,
    family,
    living,
    lock_is_free,
    names,
)
from tests.fleet.machines import eventually, machines

pytestmark = pytest.mark.slow
SIGNALS = [signal.SIGTERM, signal.SIGINT]
BY_SIGNAL = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
KINDS = pytest.mark.parametrize("kind", ["agent", "worker", "nanny"])


@pytest.fixture(scope="module")
def scheduler(exported, tmp_path_factory):
    """One for all boards of this file: it only sees that they leave."""
    with machines(tmp_path_factory.mktemp("scheduler")) as own:
        own.scheduler()
        yield own


@pytest.fixture
def fleet(scheduler, connect, tmp_path):
    """The board of one test, which is the scheduler's only one."""
    with machines(tmp_path) as fleet:
        fleet.port, fleet.address = scheduler.port, scheduler.address
        client = connect(fleet.address)
        eventually(lambda: not client.boards())
        yield fleet


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
def test_while_it_is_idle(fleet, connect, kind, number):
    board = board_of(fleet, kind)
    connect(fleet.address, boards=1)
    assert ended_in_time(end(board, number)), fleet.log("a1")


# -- under way -----------------------------------------------------------------------------------


@KINDS
@BY_SIGNAL
def test_while_it_waits_for_the_timing_lock(fleet, connect, exported, monkeypatch,
                                            kind, number):  # fmt: skip
    board = board_of(fleet, kind)
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


@KINDS
@BY_SIGNAL
@pytest.mark.parametrize("alone", [True, False], ids=["launch", "block"])
def test_while_it_measures(fleet, connect, exported, monkeypatch, kind, number, alone):
    """Its workers end, and the processes that these started."""
    board = board_of(fleet, kind)
    client = connect(fleet.address, boards=1)
    cases = ["do=child,ms=20"] if alone else ["do=child,ms=20", "do=child,ms=30"]
    request = Request(client, exported, *cases, alone=alone)
    processes = at_work(fleet, board, request)
    end(board, number)
    assert ended_in_time(processes), names(living(processes))
    assert request.lost(), request.outcomes
    assert lock_is_free(fleet, monkeypatch)


@BY_SIGNAL
def test_while_a_case_hangs_in_its_library(fleet, connect, exported, number):
    board = board_of(fleet, "agent")
    client = connect(fleet.address, boards=1)
    Request(client, exported, "do=hang-in-c", "ms=2")
    eventually(lambda: len(family(board)) >= 3)
    processes = family(board)
    end(board, number)
    assert ended_in_time(processes), names(living(processes))


@BY_SIGNAL
def test_while_it_waits_for_artifacts(fleet, connect, exported, number):
    """It said which files it lacks, and has a part of one."""
    from dataclasses import asdict

    board = board_of(fleet, "agent")
    client = connect(fleet.address, boards=1)
    files = Files()
    items = files.pair(str(exported["pt2"].path), str(exported["pt2"].reference))
    [info] = client.boards()
    offset, data = next(chunks(files.path(items[0])))
    request = encode("put", {"item": asdict(items[0]), "offset": offset})
    answer = client.ask(info, request, data=data[:1000], seconds=30, queue_seconds=30)
    assert answer.status == "ok"
    assert ended_in_time(end(board, number)), fleet.log("a1")
