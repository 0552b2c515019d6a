"""Whole gates with real workers, also by the command."""

import json
import os
import signal

import pytest

from cspbench.core.statuses import ExitCode
from cspbench.gating.decide import InterimAnalysis
from cspbench.gating.job import GateSettings
from cspbench.gating.verdict import Verdict
from cspbench.runner import arms as runner_arms
from cspbench.runner.arms import WorkerArm
from tests.gating.arms import starving_head
from tests.gating.gates import command, real_gate


@pytest.fixture
def short(monkeypatch):
    """Gates of few bursts: the machinery is tested, not the machine."""
    real = GateSettings.__init__

    def init(self, **fields):
        real(self, **{"interim": (InterimAnalysis(2, 0.02),), "pairs": 4, **fields})

    monkeypatch.setattr(GateSettings, "__init__", init)


def test_the_command_writes_what_ci_needs(suite, short, capsys, tmp_path):
    code, out, _ = command(
        capsys, "gate", str(suite), "--base", "set:engine=classic", "--head", "set:engine=classic",
        "--format", "json", "--results", str(tmp_path / "results"),
        "--markdown", str(tmp_path / "summary.md"), "--junit", str(tmp_path / "junit.xml"),
        "--html", str(tmp_path / "gate.html"), "--annotations",
    )  # fmt: skip
    data = json.loads(out)
    assert data["exit_code"] == code
    assert data["suite"] == "gate"
    (verdict,) = data["verdicts"]
    # Two short blocks on a busy machine may end in any verdict, but they were measured.
    assert verdict["generations"] >= 2
    assert len(data["generations"][verdict["case"]][0]["base_elapsed_ns"]) == 4
    (folder,) = (tmp_path / "results").iterdir()
    assert json.loads((folder / "gate.json").read_text()) == data
    assert "cspbench gate" in (tmp_path / "summary.md").read_text()
    assert "testsuite" in (tmp_path / "junit.xml").read_text()
    assert "<svg" in (tmp_path / "gate.html").read_text()


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "arm_ended"), (signal.SIGSTOP, "no_answer")]
)
def test_a_killed_or_stopped_worker_makes_the_command_end_with_3(
    suite, short, capsys, monkeypatch, tmp_path, number, reason
):
    real = WorkerArm.burst
    monkeypatch.setattr(runner_arms, "BURST_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(runner_arms, "BURST_TIMEOUT_FACTOR", 5.0)

    def burst(arm, count):
        if arm._spec.name == "head":
            os.kill(arm.pid, number)
        return real(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", burst)
    code, out, _ = command(
        capsys, "gate", str(suite), "--base", "set:engine=classic", "--head", "set:engine=classic",
        "--format", "json", "--results", str(tmp_path),
    )  # fmt: skip
    (verdict,) = json.loads(out)["verdicts"]
    assert (code, verdict["verdict"], verdict["reason"]) == (3, "unmeasured", reason)


@pytest.mark.slow
def test_a_worker_that_is_held_back_makes_the_gate_end_with_3(suite, monkeypatch):
    # Bursts are 5 ms: with few bursts a block may see none of the stops.
    settings = GateSettings(interim=(InterimAnalysis(8, 0.02),), pairs=24)
    with starving_head(monkeypatch):
        report = real_gate(suite, "set:engine=classic", "set:engine=classic", settings)
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, "waits_more")
    assert verdict.elapsed_ratio > 1.3
    assert report.exit_code == ExitCode.NOT_MEASURED


@pytest.mark.slow
def test_models_without_room_for_both_are_measured_by_pairs_of_processes(suite, monkeypatch):
    """The machine has room for one worker: with two alive, each is over its limit."""
    alive, together = set(), []
    start, close = WorkerArm.start, WorkerArm.close

    def available():
        together.append(len(alive))
        return 2**20 if len(alive) == 2 else 2**33

    monkeypatch.setattr(WorkerArm, "start", lambda arm: alive.add(id(arm)) or start(arm))
    monkeypatch.setattr(WorkerArm, "close", lambda arm: alive.discard(id(arm)) or close(arm))
    monkeypatch.setattr(runner_arms, "available_bytes", available)
    settings = GateSettings(interim=(InterimAnalysis(2, 0.02),), pairs=2)
    report = real_gate(suite, "set:engine=classic", "set:engine=classic", settings)
    (made,) = [blocks for name, blocks in report.generations.items() if "itself" not in name]
    assert [block["schedule"] for block in made] == ["pairs", "pairs"]
    # The attempt to have both, then two blocks of A B B A, one at a time.
    alive_at_load = [number for number in together if number]
    assert max(alive_at_load[:2]) == 2  # side by side: the first may ask before both live
    assert alive_at_load[2:10] == [1] * 8
    assert any("which is less precise" in note for note in report.notes)


def test_an_interrupted_gate_keeps_its_blocks_and_leaves_no_worker(
    suite, short, capsys, monkeypatch, tmp_path
):
    pids = []
    real = WorkerArm.burst

    def burst(arm, count):
        pids.append(arm.pid)
        if len(pids) == 12:  # a block is four bursts of each side: this is the second block
            raise KeyboardInterrupt
        return real(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", burst)
    code, _, err = command(capsys, "gate", str(suite), "--base", "set:", "--head", "set:",
                           "--results", str(tmp_path))  # fmt: skip
    assert code == 130
    (folder,) = tmp_path.iterdir()
    assert f"raw data  {folder}" in err
    kept = json.loads((folder / "gate.json").read_text())
    assert (kept["interrupted"], kept["exit_code"], kept["verdicts"]) == (True, 130, [])
    assert kept["headline"] == "gate interrupted (no case was judged)"
    [[block]] = kept["generations"].values()
    assert len(block["base_elapsed_ns"]) == 4
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
