"""kill -9 of agent, scheduler and controller; an agent that hangs: the same rows in the end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from cspbench.core.statuses import Status
from cspbench.store.fsck import check
from cspbench.store.rundir import list_runs, read_run
from cspbench.views.frames import load
from tests.fleet.conftest import SUITE
from tests.fleet.machines import eventually, machines

pytestmark = pytest.mark.slow
ROUNDS = 3
CASES = {
    f"yolov3-tiny-prn@96/fake{ms}/b1/t1/{board}"
    for ms in ("[ms=20]", "[ms=30]")
    for board in ("a", "b")
}
#: Of the board b1, the only one with two cases.
REFERENCE = "yolov3-tiny-prn@96/fake[ms=20]/b1/t1/b"
#: Launches of about a second, so that something is always under way.
LONG = SUITE.replace("[1, 2]", "[20, 30]").replace("max_seconds: 0.05", "max_seconds: 1")


@pytest.fixture
def fleet(exported, tmp_path):
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        for name, label in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            fleet.agent(name, "--label", label)
        (tmp_path / "long.yaml").write_text(LONG + "devices: [a, b]\n")
        yield fleet


def control(fleet, connect, **environment):
    """Start a controller when all boards are there."""
    connect(fleet.address, boards=3).close()
    script = str(Path(__file__).with_name("controller.py"))
    suite, out = str(fleet.folder / "long.yaml"), str(fleet.folder / "out")
    return fleet.start("controller", sys.executable, script, suite, out, fleet.address,
                       PYTHONPATH=_with_root(), **environment)  # fmt: skip


def _with_root():
    import os

    return os.pathsep.join([str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]])


def launches(fleet, board=None):
    runs = list_runs(fleet.folder / "out")
    launches = read_run(runs[0]).launches if runs else []
    return [launch for launch in launches if board in (None, launch.board)]


def finish(fleet, controller):
    assert controller.wait(240) == 0, fleet.log("controller")
    [path] = list_runs(fleet.folder / "out")
    return load(path)


def assert_undisturbed(run):
    """The rows of a run to which nothing happened: all of them, none twice."""
    assert set(run.cases["id"]) == CASES
    assert list(run.cases["status"]) == ["ok"] * 4
    assert (run.cases["launches"] >= ROUNDS).all()
    assert check(run.path).problems == ()
    ids = [launch.launch for launch in run.stored.launches if launch.launch]
    assert len(ids) == len(set(ids))
    good = run.launches[(run.launches["job"] == "time") & (run.launches["status"] == "ok")]
    disturbed = good["flags"].map(lambda flags: "contended" in flags)
    # Nothing that finished was repeated, but for what the load of this machine disturbed. The
    # reference is measured again beside whatever is.
    quiet = (~disturbed).groupby(good["case"]).sum()
    assert quiet.drop(REFERENCE).max() <= ROUNDS
    assert quiet[REFERENCE] <= ROUNDS + 2


def test_an_agent_is_killed_for_good_and_its_case_moves_within_the_label(fleet, connect):
    controller = control(fleet, connect, BOARD_SECONDS="15")
    eventually(lambda: launches(fleet, "a1"))
    time.sleep(0.5)  # in mid-launch
    fleet.kill("a1")
    run = finish(fleet, controller)
    assert_undisturbed(run)
    lost = run.launches[run.launches["status"] == "lost"]
    assert list(lost["board"].dropna()) == ["a1"]
    assert lost["reason"].iloc[0].startswith("board a1: ")
    case = lost["case"].iloc[0]
    assert case.endswith("/a")
    after = run.launches[(run.launches["case"] == case) & (run.launches["status"] == "ok")]
    assert after["board"].iloc[-1] == "a2"
    # Flagged if launches of both count; one that the load of this machine disturbed gives way.
    flagged = {record.case: "moved" in record.flags for record in run.records}
    counted = {record.case: {one.board for one in record.good} for record in run.records}
    assert flagged == {name: len(boards) > 1 for name, boards in counted.items()}


def test_a_board_that_dies_in_a_block_loses_that_block_only(fleet, connect):
    """b1 measures two cases in turns: what was complete stays, and b1 returns for the rest."""
    controller = control(fleet, connect)
    eventually(lambda: len(launches(fleet, "b1")) >= 3)
    time.sleep(0.5)  # in the second block
    fleet.kill("b1")
    kept = [launch for launch in launches(fleet, "b1") if launch.good]
    eventually(lambda: [one for one in launches(fleet, "b1") if one.status is Status.LOST])
    fleet.agent("b1", "--label", "b")
    run = finish(fleet, controller)
    assert_undisturbed(run)
    assert [one for one in run.stored.launches if one in kept] == kept
    lost = run.launches[run.launches["status"] == "lost"]
    assert sorted(lost["case"]) == sorted(case for case in CASES if case.endswith("/b"))
    # Both cases are measured again in one block, with the reference twice.
    after = [one for one in run.stored.launches if one.board == "b1" and one not in kept]
    after = [one for one in after if one.good][:3]
    assert len({one.result.turns.block for one in after}) == 1
    assert sorted(one.job for one in after) == ["check", "time", "time"]


def test_scheduler_and_controller_are_killed_and_resumed(fleet, connect):
    controller = control(fleet, connect)
    eventually(lambda: launches(fleet))
    fleet.kill("scheduler")
    time.sleep(1)
    fleet.scheduler()  # at its old address: the agents come back, the controller goes on
    before = len(launches(fleet))
    eventually(lambda: len(launches(fleet)) > before + 1)
    fleet.kill("controller")
    kept = [launch for launch in launches(fleet) if launch.good]
    assert controller.returncode == -signal.SIGKILL
    run = finish(fleet, control(fleet, connect))
    assert_undisturbed(run)
    assert [launch for launch in run.stored.launches if launch in kept] == kept


def test_an_agent_that_hangs_is_given_up_and_its_late_answer_not_counted(fleet, connect):
    controller = control(fleet, connect)
    eventually(lambda: launches(fleet, "a2"))
    fleet.kill("a2", signal.SIGSTOP)
    eventually(lambda: [one for one in launches(fleet) if one.status is Status.LOST])
    fleet.kill("a2", signal.SIGCONT)
    run = finish(fleet, controller)
    assert_undisturbed(run)
    assert set(run.launches.loc[run.launches["status"] == "lost", "board"].dropna()) == {"a2"}
