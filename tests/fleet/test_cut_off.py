"""A board on a network of its own is cut off in mid-launch, and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.core.statuses import Status
from cspbench.store.fsck import check
from cspbench.store.rundir import list_runs, read_run
from cspbench.views.frames import load
from tests.fleet.machines import ROOT, eventually, machines
from tests.fleet.test_faults import LONG

pytestmark = [pytest.mark.namespaces, pytest.mark.slow]
HOST, BOARD = "10.213.77.1", "10.213.77.2"


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def network():
    """Two network namespaces with one cable between them: (host's, board's)."""
    names = (f"csp{os.getpid()}h", f"csp{os.getpid()}b")
    try:
        for name in names:
            made = ip("netns", "add", name)
            if made.returncode:
                pytest.skip(f"no network namespaces: {made.stderr.strip()}")
        commands = [["-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name",
                     "cable", "netns", names[1]]]  # fmt: skip
        for name, address in zip(names, (HOST, BOARD), strict=True):
            commands += [["-n", name, "addr", "add", f"{address}/24", "dev", "cable"],
                         ["-n", name, "link", "set", "lo", "up"],
                         ["-n", name, "link", "set", "cable", "up"]]  # fmt: skip
        for command in commands:
            done = ip(*command)
            if done.returncode:
                pytest.skip(f"no virtual cable: {done.stderr.strip()}")
        yield names
    except FileNotFoundError:
        pytest.skip("no network namespaces: ip (iproute2) is not installed")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_board_that_was_cut_off_in_mid_launch_returns(exported, network, tmp_path):
    host, far = network

    def wrap(name):
        return ["ip", "netns", "exec", far if name == "a1" else host]

    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
    with machines(tmp_path, environment=environment, wrap=wrap, host=HOST) as fleet:
        (tmp_path / "long.yaml").write_text(LONG)
        fleet.scheduler()
        refused = fleet.agent("a1")
        assert refused.wait(60) == 2  # plain TCP beyond this machine
        assert "can run any code on every board" in fleet.log("a1")
        fleet.agent("a1", "--insecure")
        eventually(lambda: "works for" in fleet.log("a1"))
        script = str(Path(__file__).with_name("controller.py"))
        suite, out = str(tmp_path / "long.yaml"), tmp_path / "out"
        controller = fleet.start(
            "controller", sys.executable, script, suite, str(out), fleet.address
        )

        def launches():
            return [one for run in list_runs(out) for one in read_run(run).launches]

        eventually(launches)
        assert ip("-n", far, "link", "set", "cable", "down").returncode == 0
        eventually(lambda: [one for one in launches() if one.status is Status.LOST])
        assert ip("-n", far, "link", "set", "cable", "up").returncode == 0
        assert controller.wait(280) == 0, fleet.log("controller")
    run = load(list_runs(out)[0])
    assert list(run.cases["status"]) == ["ok", "ok"]
    assert list(run.cases["launches"]) == [3, 3]
    assert set(run.launches["board"].dropna()) == {"a1"}
    assert check(run.path).problems == ()
