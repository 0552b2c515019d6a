"""Kill -9 and Ctrl-C of the controller in mid-run: nothing that was reported is lost.

The suite runs a real model's artifact on the backend of ``tests/fake_backend.py``, whose latency is
known: 1 and 2 ms.
"""

import json
import signal

import psutil
import pytest

from cspbench.store.rundir import BLOCK_FILE
from cspbench.views.frames import load
from tests.cli.conftest import wait_until, workers

SUITE = """
name: two
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [1, 2]
measure: {rounds: 3, warmup: 0.05, max_seconds: 0.05, target_ratio: 90%, memory: false}
"""
CASES = ["yolov3-tiny-prn@96/fake/b1/t1", "yolov3-tiny-prn@96/fake[ms=2]/b1/t1"]


def stored(folder):
    """The raw lines of the only run below ``folder``; none before it exists."""
    for path in folder.glob("results/*/launches.jsonl"):
        return path.read_bytes().splitlines(keepends=True)
    return []


def timed(run):
    """Good timing launches of each case."""
    good = run.launches[(run.launches["status"] == "ok") & (run.launches["job"] == "time")]
    return good.groupby("case").size().to_dict()


def test_after_kill_9_every_reported_launch_is_on_disk_and_resume_does_the_rest(cspbench):
    cspbench.write("two.yaml", SUITE)
    arguments = ["run", "two.yaml", "--no-report"]
    kept = []
    # Killed before its first launch, after it, and resumed and killed once more later on.
    for launches in (0, 1, 4):
        controller = cspbench.start(*arguments)
        if launches:
            wait_until(lambda: len(stored(cspbench.folder)) >= launches)  # noqa: B023
        else:
            wait_until(lambda: list(cspbench.folder.glob("results/*/run.json")))
        reported = stored(cspbench.folder)
        controller.send_signal(signal.SIGKILL)
        controller.communicate()
        wait_until(lambda: not [w for w in workers() if w.ppid() in (1, controller.pid)])  # noqa: B023
        assert reported[: len(kept)] == kept  # what an earlier session left stays as it was
        now = stored(cspbench.folder)
        assert now[: len(reported)] == reported
        kept = now
        arguments = ["run", "--resume", "latest", "--no-report"]

    (folder,) = cspbench.folder.glob("results/*")
    before = load(folder)
    missing = {case: 3 - timed(before).get(case, 0) for case in CASES}
    result = cspbench.run_json("--resume", "latest")
    after = load(folder)
    assert stored(cspbench.folder)[: len(kept)] == kept
    assert len(list(cspbench.folder.glob("results/*"))) == 1
    new = {case: timed(after)[case] - timed(before).get(case, 0) for case in CASES}
    for case in CASES:
        # A launch more where other load on this machine disturbed one, and of the reference one
        # more for each block without a need for it.
        assert missing[case] <= new[case] <= missing[case] + (5 if case == CASES[0] else 1)

    # The final rows are those of an undisturbed run.
    undisturbed = cspbench.run_json("two.yaml", "--no-report", "--results", "undisturbed")
    assert [case["id"] for case in result["cases"]] == [case["id"] for case in undisturbed["cases"]]
    for row in (*result["cases"], *undisturbed["cases"]):
        assert row["status"] == "ok"
        assert row["latency_ms"] >= {CASES[0]: 1.0, CASES[1]: 2.0}[row["id"]]
    assert min(after.cases["launches"]) >= 3
    assert list(after.cases["samples"] > 0) == [True, True]
    assert all("resumed" in row["flags"] for row in result["cases"])
    assert not any("resumed" in row["flags"] for row in undisturbed["cases"])


@pytest.mark.slow
def test_kill_9_in_mid_block_keeps_the_rounds_that_were_held(cspbench):
    """A block of 28 seconds (400 rounds of 20 + 20 + 30 ms); after ten its rounds are held."""
    one_block = {"rounds: 3": "rounds: 1", "[1, 2]": "[20, 30]", "ds: 0.05": "ds: 40"}
    text = SUITE
    for old, new in one_block.items():
        text = text.replace(old, new)
    cspbench.write("two.yaml", text)
    controller = cspbench.start("run", "two.yaml", "--no-report")
    held = lambda: list(cspbench.folder.glob(f"results/*/{BLOCK_FILE}"))  # noqa: E731
    wait_until(lambda: held() or controller.poll() is not None)
    assert held(), controller.communicate()
    controller.send_signal(signal.SIGKILL)
    controller.communicate()
    assert stored(cspbench.folder) == []
    (file,) = held()
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3  # the reference twice

    # One round of launches was asked for, which they are.
    result = cspbench.run_json("--resume", "latest", "--no-report")
    assert [case["status"] for case in result["cases"]] == ["ok", "ok"]
    assert stored(cspbench.folder) == lines
    assert not file.exists()
    for launch in load(file.parent).stored.launches:
        assert len(launch.result.turns.counts) >= 8
        assert launch.result.turns.block == "0.0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_children_writes_the_report_and_exits_with_130(cspbench, number):
    cspbench.write("two.yaml", SUITE.replace("rounds: 3", "rounds: 500"))
    controller = cspbench.start("run", "two.yaml", "--format", "json")
    wait_until(lambda: len(stored(cspbench.folder)) >= 2)
    children = psutil.Process(controller.pid).children(recursive=True)
    controller.send_signal(number)
    out, err = controller.communicate()
    assert controller.returncode == 130
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=30)[1] == []
    summary = json.loads(out.splitlines()[-1])
    assert (cspbench.folder / summary["report"]).exists()
    assert [case["status"] for case in summary["cases"]] == ["interrupted"] * 2
    assert len(stored(cspbench.folder)) >= 2


def test_resume_refuses_other_choices(cspbench):
    cspbench.write("two.yaml", SUITE.replace("rounds: 3", "rounds: 1"))
    cspbench.run_json("two.yaml", "--no-report")
    for arguments in (["--rounds", "2"], ["--only", "*"], ["--set", "threads=2"]):
        result = cspbench("run", "--resume", "latest", *arguments)
        assert result.returncode == 2
        assert "leave out --only, --set and --rounds" in result.stderr
    cspbench.write("two.yaml", SUITE.replace("rounds: 3", "rounds: 4"))
    result = cspbench("run", "two.yaml", "--resume", "latest")
    assert (result.returncode, "the suite changed" in result.stderr) == (2, True)
