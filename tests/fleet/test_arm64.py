"""A board of another architecture, without torch, from nothing to a gate: ``make test-arm64``.

The whole takes about forty minutes, five of them to set the emulated system up, fifteen the gate.
The controller is this machine; it exports the artifacts.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from cspbench.store.rundir import list_runs, read_run
from tests.fleet.debian_arm64 import ENVIRONMENT, Arm64
from tests.fleet.machines import Machines, eventually

pytestmark = [pytest.mark.arm64, pytest.mark.slow]
#: Emulated, an inference takes as long as twenty, and Python as long as ten.
DASK = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "120s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "120s"}  # fmt: skip
SUITE = """
name: arm
matrix:
  model: [yolov3-tiny-prn@96, "yolov3-tiny-prn[act=mish]@96"]
  backend: [opencv-cpu, onnxruntime]
measure: {rounds: 2, target_ratio: 99%, memory: false, warmup: 0.1, max_seconds: 1,
          timeout_seconds: 300, sensors: none}
gate: {latency: {min_effect: 20%, tolerance: 20%}}
"""


@pytest.fixture(scope="session")
def system():
    """The emulated system, with its board installed."""
    system = Arm64(Path(os.environ["CSPBENCH_ARM64"]))
    system.set_up()
    with system.mounted():
        system.install()
        yield system


class Lab(Machines):
    """This machine's scheduler and controller, and the board in the emulated system."""

    system: Arm64

    def board(self) -> None:
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **DASK}.items()]
        self.start("arm", *self.system.words(
            "/usr/bin/env", "-i", *variables, "cspbench", "agent", self.address, "--name", "arm",
        ))  # fmt: skip


@pytest.fixture(scope="module")
def lab(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    own = {"CSPBENCH_CACHE": str(folder / "cache"), "CSPBENCH_LOCK_DIR": str(folder)}
    (folder / "arm.yaml").write_text(SUITE)
    lab = Lab(folder, {**DASK, **own})
    lab.system = system
    try:
        lab.scheduler()
        lab.board()
        eventually(lambda: "idle" in lab.cspbench("fleet", lab.address).stdout, 300)
        yield lab
    finally:
        lab.close()


def start(lab, name, *words):
    """Begin a run whose results lie in a folder of its name."""
    words = words or ("--results", str(lab.folder / name), str(lab.folder / "arm.yaml"))
    return lab.start(name, sys.executable, "-m", "cspbench", "run", "--scheduler", lab.address,
                     "--no-report", *words)  # fmt: skip


def stored(lab, name):
    """The run of a folder."""
    [path] = list_runs(lab.folder / name)
    return read_run(path)


def launches(lab, name):
    """What the run of a folder has measured so far, if it has begun."""
    return [one for path in list_runs(lab.folder / name) for one in read_run(path).launches]


def good(run):
    """The cases that were measured, by the number of their good launches."""
    return Counter(one.case for one in run.launches if one.status.value == "ok")


def test_every_command_that_a_board_needs_works_there(system):
    assert system.run("uname", "-m").strip() == "aarch64"
    installed = system.run("/venv/bin/pip", "list", "--format=freeze").lower()
    for name in ("torch", "pandas", "matplotlib"):
        assert f"\n{name}==" not in installed
    expected = {
        ("--version",): "cspbench", ("agent", "--help"): "--name",
        ("list", "backends"): r"(?m)^opencv-cpu +available ", ("doctor",): "opencv-cpu",
    }  # fmt: skip
    for command, pattern in expected.items():
        said = system.run("/venv/bin/cspbench", *command)
        assert re.search(pattern, said), said
        assert "Traceback" not in said


def test_a_suite_is_measured_on_two_engines_from_artifacts_of_the_controller(lab):
    assert start(lab, "whole").wait(900) == 0, lab.log("whole")
    run = stored(lab, "whole")
    assert len(good(run)) == 4, lab.log("whole")
    assert {one.status.value for one in run.launches} == {"ok"}
    assert {one.board for one in run.launches} == {"arm"}
    board = run.meta["fleet"]["boards"]["arm"]["environment"]
    assert board["machine"] == "aarch64"
    assert "torch" not in board["libraries"]


def test_a_killed_agent_comes_back_and_the_run_goes_on(lab):
    run = start(lab, "agent")
    eventually(lambda: launches(lab, "agent"), 600)
    lab.kill("arm")
    lab.board()
    assert run.wait(900) == 0, lab.log("agent")
    assert len(good(stored(lab, "agent"))) == 4


def test_a_killed_controller_is_resumed(lab):
    start(lab, "killed")
    eventually(lambda: launches(lab, "killed"), 600)
    lab.kill("killed")
    before = len(launches(lab, "killed"))
    [path] = list_runs(lab.folder / "killed")
    assert start(lab, "resumed", "--resume", str(path)).wait(900) == 0, lab.log("resumed")
    run = stored(lab, "killed")
    assert len(run.launches) > before
    assert len(good(run)) == 4


def test_a_gate_finds_there_what_takes_longer(lab):
    """Mish for leaky ReLU costs an exponential and a logarithm an element."""
    suite = lab.folder / "gate.yaml"
    suite.write_text(SUITE.replace(', "yolov3-tiny-prn[act=mish]@96"', "")
                     .replace("opencv-cpu, onnxruntime", "onnxruntime"))  # fmt: skip
    sides = ("--base", "set:", "--head", "set:act=mish")
    where = ("--scheduler", lab.address, "--on", "arm")
    words = ("gate", str(suite), *sides, *where, "--format", "json", "--verbose")
    gate = lab.start("gate", sys.executable, "-m", "cspbench", *words)
    assert gate.wait(2700) == 1, lab.log("gate")
    [report] = [json.loads(line) for line in lab.log("gate").splitlines() if line[:1] == "{"]
    assert [one["verdict"] for one in report["verdicts"]] == ["slower"]
    assert "measured on board arm, both sides in its environment" in report["notes"]
