"""What a board does when its scheduler ends: a worker of Dask ends with it, an agent waits."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.fleet.ending import (
    Request,
    at_work,
    board_of,
    ended_in_time,
    living,
    lock_is_free,
    names,
)
from tests.fleet.machines import machines

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(exported, tmp_path):
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        yield fleet


@pytest.mark.parametrize("kind", ["worker", "nanny"])
def test_a_worker_with_the_preload_ends_with_its_scheduler(fleet, connect, exported,
                                                           kind):  # fmt: skip
    board = board_of(fleet, kind)
    client = connect(fleet.address, boards=1)
    request = Request(client, exported, "do=child,ms=20", "do=child,ms=30")
    processes = at_work(fleet, board, request)
    threading.Thread(target=board.wait, daemon=True).start()
    fleet.processes["scheduler"].send_signal(signal.SIGTERM)
    assert ended_in_time(processes), (names(living(processes)), fleet.log("a1"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["closed", "killed"])
def test_an_agent_drops_its_work_with_the_scheduler_and_waits_for_the_next(
    fleet, connect, exported, monkeypatch, how
):
    board = board_of(fleet, "agent")
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
