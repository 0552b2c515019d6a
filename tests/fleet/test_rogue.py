"""Rogue members of a real fleet: each bad answer costs its launch, and the run is read.

No check keeps a member from doing more (docs/fleet.md): Dask runs the code of its members.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import cspbench
from tests.fleet.conftest import SUITE
from tests.fleet.machines import ROOT, eventually, machines
from tests.fleet.rogue import ESCAPES, WAYS

pytestmark = pytest.mark.slow
CONTROLS = {one for one in ESCAPES if not one.isprintable()}
MODEL = "yolov3-tiny-prn@96/fake"


def case(ms, board):
    return f"{MODEL}{f'[ms={ms}]' if ms > 1 else ''}/b1/t1/{board}"


@pytest.fixture(scope="module")
def measured(exported, tmp_path_factory):
    """A run of an honest board and a rogue one, and what was printed."""
    folder = tmp_path_factory.mktemp("rogues")
    every = ", ".join(map(str, range(1, len(WAYS))))
    text = SUITE.replace("[1, 2]", f"[{every}]").replace("rounds: 3", "rounds: 1, together: 1")
    (folder / "tiny.yaml").write_text(text + "devices: [good, evil]\n")
    with machines(folder, environment={"PYTHONPATH": _path()}) as fleet:
        fleet.scheduler()
        fleet.agent("good")
        for name in ("evil", "../../evil"):
            fleet.start(
                f"rogue{len(name)}", sys.executable, "-m", "tests.fleet.rogue", fleet.address, name,
                CSPBENCH_LOCK_DIR=str(folder), CSPBENCH_CACHE=str(folder / "rogue"),
            )  # fmt: skip
        for name in ("good", "rogue4", "rogue10"):
            eventually(lambda name=name: "works for" in fleet.log(name))
        words = ("run", "tiny.yaml", "--scheduler", fleet.address, "--format", "json")
        only = ("--only", "*/evil", "--only", case(1, "good"))
        result = fleet.cspbench(*words, *only)
        yield fleet, result


def _path():
    import os

    return os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])


@pytest.fixture(scope="module")
def run(measured):
    fleet, result = measured
    return cspbench.load(fleet.folder / json.loads(result.stdout.splitlines()[-1])["run"])


def test_the_run_ends_with_sentences(measured):
    _, result = measured
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert not set(result.stdout + result.stderr) & CONTROLS
    refused = "refused: the announcement of the agent at tcp://127.0.0.1:"
    assert refused in result.stderr
    assert "is malformed: name: Value error, '../../evil' is not a label" in result.stderr


def test_each_bad_answer_costs_its_launch(run):
    assert run.stored.problems == []
    statuses = {record.case: record.status.value for record in run.records}
    assert statuses.pop(case(1, "good")) == "ok"
    assert statuses.pop(case(1, "evil")) == "ok"  # its claim is possible
    assert len(statuses) == len(WAYS) - 2
    bad = {name: status for name, status in statuses.items() if status != "failed"}
    # A crash is a claim that any board may make. Of the agent that fails Dask says no more.
    assert sorted(bad.values()) == ["crashed", "lost"], bad
    for record in run.records:
        assert record.reason or record.status.value == "ok", record.case


def test_an_invented_result_stays_with_the_board_that_invented_it(run):
    """A rogue board cannot speak for another one's cases, numbers or boards."""
    fps = dict(zip(run.cases["id"], run.cases["fps"], strict=True))
    assert fps[case(1, "evil")] == pytest.approx(1e6)
    assert fps[case(1, "good")] < 2000
    assert set(run.launches["board"].dropna()) == {"good", "evil"}
    assert (run.launches["case"].str.rpartition("/")[2] == run.launches["board"]).all()
    assert set(run.launches["job"]) == {"time"}


@pytest.mark.parametrize("words", [("show",), ("show", "--launches"), ("report",), ("fsck",)])
def test_commands_read_the_run(measured, run, words):
    fleet, _ = measured
    command, *options = words
    result = fleet.cspbench(command, str(run.path), *options)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    page = fleet.folder / "reports" / f"{run.path.name}.html"
    for text in (result.stdout, result.stderr, page.read_text()):
        assert not set(text) & CONTROLS
    assert not list(Path(fleet.folder).parent.parent.glob("evil*"))
