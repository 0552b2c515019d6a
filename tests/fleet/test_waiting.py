"""Nothing is silent: what a board waits for stands in the progress and in the log of events."""

from __future__ import annotations

import json

import pytest

from cspbench.machine.lock import timing_lock
from tests.fleet.conftest import SUITE
from tests.fleet.machines import eventually, machines

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(exported, tmp_path):
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        fleet.agent("a1")
        (tmp_path / "tiny.yaml").write_text(SUITE.replace("rounds: 3", "rounds: 1"))
        yield fleet


def start_run(fleet, name="run", suite="tiny.yaml"):
    """A run on the fleet in the background."""
    import sys

    return fleet.start(
        name, sys.executable, "-m", "cspbench", "run", str(fleet.folder / suite), "--scheduler",
        fleet.address, "--log-json", str(fleet.folder / f"{name}.json"), "--results",
        str(fleet.folder / name), "--no-report",
    )  # fmt: skip


def waits(fleet, name="run"):
    """What the boards of a run waited for, by its log of events."""
    path = fleet.folder / f"{name}.json"
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    return [
        (event["board"], event["what"])
        for event in events
        if event["event"] == "board" and event["state"] == "waiting"
    ]


def test_a_board_that_waits_for_its_machine_says_so(fleet, connect, monkeypatch):
    """Its artifacts are sent first, which it says, too; and the end of the run is quiet."""
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(fleet.folder / "a1" / "lock"))
    connect(fleet.address, boards=1).close()
    with timing_lock("a local run"):
        run = start_run(fleet)
        eventually(lambda: len(waits(fleet)) >= 2)
        glance = fleet.cspbench("fleet", fleet.address, "--format", "json")
    [sending, waiting] = waits(fleet)
    assert sending[0] == waiting[0] == "a1"
    assert sending[1].startswith("sending 2 files to it, ")
    assert waiting[1].startswith("another run measures on this machine (process ")
    assert "a local run); waiting for it, at most 60 min in all" in waiting[1]
    [row] = json.loads(glance.stdout)
    assert (row["state"], row["what"]) == ("waiting", waiting[1])
    assert run.wait(120) == 0, fleet.log("run")
    log = fleet.log("run")
    assert f"a1: {waiting[1]}" in log
    for word in ("Traceback", "CRITICAL", "Closed comm", "distributed."):
        assert word not in log, log


def test_a_run_that_waits_for_another_one_on_the_board_says_so(fleet, connect):
    (fleet.folder / "long.yaml").write_text(
        SUITE.replace("[1, 2]", "[20, 30]").replace("max_seconds: 0.05", "max_seconds: 4")
    )
    connect(fleet.address, boards=1).close()
    first = start_run(fleet, "first", "long.yaml")
    eventually(lambda: "measuring" in fleet.cspbench("fleet", fleet.address).stdout)
    second = start_run(fleet, "second")
    eventually(lambda: waits(fleet, "second"))
    assert "it is busy with another request; waiting for it, at most 3600 s" in str(
        waits(fleet, "second")
    )
    assert second.wait(240) == 0, fleet.log("second")
    assert first.wait(240) == 0, fleet.log("first")


def test_a_run_whose_board_is_lost_says_that_it_waits_for_it(fleet, connect):
    (fleet.folder / "long.yaml").write_text(
        SUITE.replace("[1, 2]", "[20, 30]").replace("max_seconds: 0.05", "max_seconds: 3")
    )
    connect(fleet.address, boards=1).close()
    run = start_run(fleet, "run", "long.yaml")
    eventually(lambda: "measuring" in fleet.cspbench("fleet", fleet.address).stdout)
    fleet.kill("a1")
    eventually(lambda: any("it is lost; waiting for it to come back" in text
                           for _, text in waits(fleet)))  # fmt: skip
    fleet.agent("a1")
    assert run.wait(240) == 0, fleet.log("run")
