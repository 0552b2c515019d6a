"""Whole gates: real repositories, suites and exports; invented arms unless a test says real."""

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import replace

import pytest

from cspbench.cli.main import main
from cspbench.core.statuses import ExitCode, Status
from cspbench.errors import InputError
from cspbench.gating import job, measured
from cspbench.gating.decide import InterimAnalysis
from cspbench.gating.job import GateSettings, run_gate
from cspbench.gating.sides import OpenSide, parse_side
from cspbench.gating.timing import NULL
from cspbench.gating.verdict import Verdict
from cspbench.machine.sensors.spec import SENSORS
from cspbench.runner import arms as runner_arms
from cspbench.runner.arms import WorkerArm
from cspbench.suite.load import load_suite
from cspbench.suite.rules import RULES, MeasuredRule, StaticRule
from tests.gating.arms import Machine, lost, starving_head
from tests.runner.test_observe import Card

CASE = '"darknet:models/smallcsp.cfg"@64/opencv-cpu/b1/t1'


@pytest.fixture
def suite(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository / "suites/gate.yaml"


def gate(suite, base, head="set:", settings=None, machine=None, machines=None):
    """Run a gate on invented hardware; ``machines`` gives a new one for each duet."""
    queue = iter(machines) if machines else None
    made = []

    def arms(pair, base_side, head_side, *, layers=False):
        if layers:  # of the same invented hardware
            return made[-2 if made[-1][0] == NULL else -1][1].make
        null = pair.base is pair.head
        chosen = Machine({"base": 1e6, "head": 1e6}) if null and not queue else (
            next(queue) if queue else machine or Machine({"base": 1e6, "head": 1e6})
        )  # fmt: skip
        made.append((pair.name, chosen))
        return chosen.make

    steps = []
    report = run_gate(
        suite, *sides(suite, base, head), settings or GateSettings(), steps.append, arms
    )
    return report, made, steps


def sides(suite, *texts):
    return [parse_side(text, suite, suite.parent / "results") for text in texts]


def real_gate(suite, base, head, settings):
    return run_gate(suite, *sides(suite, base, head), settings)


def times(base, head):
    return Machine({"base": base, "head": head})


# The course of a gate


def test_the_same_on_both_sides(suite):
    report, made, _ = gate(suite, "set:engine=new", "set:engine=new")
    (verdict,) = report.verdicts
    assert (verdict.verdict, report.exit_code) == (Verdict.SAME, ExitCode.OK)
    assert (verdict.base_ms, verdict.generations) == (1.0, 4)
    # The case and the null case, four blocks of two processes each.
    assert [name for name, _ in made] == [
        f"{CASE[:-6]}[engine=new]/b1/t1",
        "the base against itself",
    ]
    assert sum(len([e for e in m.log if e[0] == "start"]) for _, m in made) == 16
    assert report.null.verdict is Verdict.SAME


def test_slower_is_measured_again_from_scratch(suite):
    report, _, steps = gate(suite, "set:engine=new", "set:engine=classic",
                           machine=times(1e6, 1.1e6))  # fmt: skip
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "confirmed")
    assert report.exit_code == ExitCode.REGRESSION
    assert verdict.ratio == pytest.approx(1.1)
    assert verdict.generations == 8
    assert any("[1/1 again]" in line for line in steps)
    assert len(report.generations[verdict.case]) == 8


def test_faster_is_measured_again_too(suite):
    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machine=times(1e6, 0.8e6))
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.FASTER, "confirmed")
    assert verdict.generations == 8
    assert report.exit_code == ExitCode.OK


def test_a_null_case_that_moves_twice_takes_the_finding_back(suite):
    slow = [times(1e6, 1.1e6), times(1e6, 1.1e6)]
    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", GateSettings(strict=True),
                        machines=slow)  # fmt: skip
    assert [v.reason for v in report.verdicts] == ["null_moved"]
    assert report.null.generations == 8
    assert report.exit_code == ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(
    ("error", "reason"),
    [(lost("head"), "arm_ended"), (lost("base", "no_answer", Status.TIMEOUT), "no_answer")],
)
def test_a_lost_arm_is_unmeasured(suite, error, reason):
    machine = Machine({"base": 1e6, "head": 1e6}, fail={(error.arm, "burst"): error})
    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machine=machine)
    assert [(v.verdict, v.reason) for v in report.verdicts] == [(Verdict.UNMEASURED, reason)]
    assert report.exit_code == ExitCode.NOT_MEASURED
    assert report.null is None  # no finding was left to guard


def test_with_one_thread_running_time_decides_and_a_head_that_waits_does_not_pass(suite):
    # The head takes 25 % longer, but 20 % of that it does not run: 1.25 x 0.8 = 1.
    machine = Machine({"base": 1e6, "head": 1.25e6}, lost_share={"head": 0.2})
    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machine=machine)
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, "waits_more")
    assert (verdict.ratio, verdict.ratio_of) == (pytest.approx(1.0), "running time")
    assert (verdict.base_ms, verdict.head_ms) == (pytest.approx(1.0), pytest.approx(1.0))
    assert verdict.elapsed_ratio == pytest.approx(1.25)
    assert "the head also waited longer, which is +25.0 % more of elapsed time" in verdict.sentence
    assert report.exit_code == ExitCode.NOT_MEASURED
    assert any("of running time" in note for note in report.notes)


def test_a_head_that_does_more_work_is_slower_however_long_it_waits(suite):
    # 55 times the work, and half of the time it waits: elapsed 110 times, running 55 times.
    slow = Machine({"base": 1e6, "head": 110e6}, lost_share={"head": 0.5})
    machines = [slow, times(1e6, 1e6)]  # the case, twice, and the null case
    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machines=machines)
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "confirmed")
    assert verdict.ratio == pytest.approx(55)
    assert "the head also waited longer" in verdict.sentence


def test_what_neither_side_can_run_is_skipped(suite):
    machine = Machine({"base": 1e6, "head": 1e6})
    refusal = lost("base", status=Status.UNSUPPORTED, text="no such engine")

    class Refusing(Machine):
        def make(self, side):
            machine.fail[(side, "load")] = refusal
            return machine.make(side)

    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machine=Refusing({}))
    assert report.verdicts == []
    assert [s.status for s in report.skipped] == ["unsupported"]
    assert report.exit_code == ExitCode.OK


def test_what_only_one_side_can_run_is_unmeasured(suite):
    machine = Machine({"base": 1e6, "head": 1e6})
    refusal = lost("head", status=Status.UNSUPPORTED, text="no such engine")

    class Refusing(Machine):
        def make(self, side):
            machine.fail = {("head", "load"): refusal}
            return machine.make(side)

    report, _, _ = gate(suite, "set:engine=new", "set:engine=classic", machine=Refusing({}))
    assert [(v.verdict, v.reason) for v in report.verdicts] == [
        (Verdict.UNMEASURED, "one_side_only")
    ]  # fmt: skip


# Git


def test_a_committed_slowdown_is_caught_by_the_static_gate(suite):
    report, made, _ = gate(suite, "main~1", "main")
    (verdict,) = report.verdicts
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "static_rule")
    assert report.exit_code == ExitCode.REGRESSION
    # 256 channels at 8x8 places of a 64x64 input: 256 * 256 * 64 = 4,194,304 more MACs.
    assert "conv2d 1x1, 256x8x8 -> 256x8x8, 4,194,304 MACs" in verdict.sentence
    assert made == []  # nothing was timed


def test_a_static_change_can_be_let_pass(suite):
    report, made, _ = gate(suite, "main~1", "main", GateSettings(static=False))
    assert [v.verdict for v in report.verdicts] == [Verdict.SAME]
    assert any(change.blocked for change in report.static)
    assert len(made) == 2


def test_an_untouched_model_is_not_timed(suite, git):
    git("commit", "-q", "--allow-empty", "-m", "words")
    report, made, _ = gate(suite, "main~1", "main")
    assert [(v.verdict, v.reason) for v in report.verdicts] == [(Verdict.SAME, "identical")]
    assert made == []
    report, made, _ = gate(suite, "main~1", "main", GateSettings(measure_identical=True))
    assert [v.reason for v in report.verdicts] == ["within_tolerance"]


def test_the_working_tree_is_a_side(suite, repository):
    model = repository / "models/smallcsp.cfg"
    model.write_text(model.read_text().replace("filters=100", "filters=101"))
    report, _, _ = gate(suite, "main")
    assert [v.reason for v in report.verdicts] == ["static_rule"]


def test_the_working_directory_does_not_matter(suite, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    report, _, _ = gate(suite, "main~1", "main")
    assert [v.case for v in report.verdicts] == [CASE]


def test_leave_to_run_code_reaches_both_sides(suite, monkeypatch):
    permissions = []

    @contextlib.contextmanager
    def without_cases(side, file, *_, allow_code, **__):
        permissions.append(allow_code)
        yield OpenSide(side, load_suite(file), [])

    monkeypatch.setattr(job, "opened", without_cases)
    for leave in (True, False):
        with pytest.raises(InputError, match="no case is on both sides"):
            gate(suite, "set:", "set:", GateSettings(allow_code=leave))
    assert permissions == [True, True, False, False]


def test_sides_without_a_common_case(suite, repository, git):
    suite.write_text(suite.read_text().replace("input: 64", "input: 96"))
    with pytest.raises(InputError, match="no case is on both sides"):
        gate(suite, "main", settings=GateSettings(static=False, rules="head"))


# The command with real workers


@pytest.fixture
def short(monkeypatch):
    """Gates of few bursts: the machinery is tested, not the machine."""
    real = GateSettings.__init__

    def init(self, **fields):
        real(self, **{"interim": (InterimAnalysis(2, 0.02),), "pairs": 4, **fields})

    monkeypatch.setattr(GateSettings, "__init__", init)


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports peaks")
def test_a_head_that_takes_a_fifth_more_memory_is_caught(suite, monkeypatch):
    """Five images instead of four: as long an inference (invented), a fifth more memory (real)."""
    rule = replace(RULES.get("peak_memory_bytes"), launches=2)
    monkeypatch.setitem(RULES._entries, rule.name, rule)
    text = suite.read_text().replace("input: 64", "input: 256")
    suite.write_text(text.replace("gate:", "gate:\n  peak_memory_bytes: 10%"))
    report, _, _ = gate(suite, "set:batch=4", "set:batch=5")
    (verdict,), (change,) = report.verdicts, report.measured
    assert 0.12 < change.change < 0.28
    assert max(change.base) < min(change.head)
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "peak_memory")
    assert "the suite allows +10 %" in verdict.sentence
    assert report.exit_code == ExitCode.REGRESSION
    # The same launches under a rule of 30 % would pass.
    assert not rule.exceeded(change.base, change.head, 0.3)
    (row,) = report.as_dict()["memory"]
    assert row == {"case": change.case, "base": change.base, "head": change.head, "limit": 0.1}


def test_start_up_and_the_size_of_the_file_are_rules(suite):
    """Real launches of both sides; the same file on both."""
    rules = "gate:\n  first_inference: 100%\n  model_bytes: 0%"
    suite.write_text(suite.read_text().replace("gate:", rules))
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    start, size = report.measured
    assert (start.metric, len(start.base), start.blocked) == ("first_inference", 5, False)
    assert all(ns > 1e5 for ns in (*start.base, *start.head))
    assert (size.metric, size.base, size.blocked) == ("model_bytes", size.head, False)
    assert size.base[0] > 1000


class Meter(Card):
    """A sensor of a processor that draws 50 W all the time."""

    name = "meter"

    def counters(self):
        return {"cpu_energy_j": 50.0 * time.monotonic()}


@pytest.mark.slow
def test_a_head_that_takes_more_energy_is_caught(suite, monkeypatch):
    """Real inferences of one and of four images; at equal power energy goes with time."""
    monkeypatch.setitem(SENSORS._entries, "meter", Meter())
    rule = replace(RULES.get("energy"), launches=1)
    monkeypatch.setitem(RULES._entries, rule.name, rule)
    text = suite.read_text().replace("gate:", "gate:\n  energy: 5%")
    suite.write_text(text)
    report, _, _ = gate(suite, "set:batch=1", "set:batch=4")
    (verdict,), (change,) = report.verdicts, report.measured
    assert (change.metric, change.unit, change.job) == ("energy", "J", "energy")
    assert 1.5 < change.change + 1 < 8
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "measured_rule")
    assert verdict.sentence.startswith("energy ")


def test_without_a_sensor_of_power_the_rule_of_energy_is_not_checked(suite, monkeypatch):
    monkeypatch.setattr("cspbench.runner.observe.select_sensors", lambda setting: [])
    suite.write_text(suite.read_text().replace("gate:", "gate:\n  energy: 5%"))
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    assert report.exit_code == ExitCode.OK
    assert any(
        "no sensor of this machine gives the power of the device cpu, so that its rule was not "
        "checked" in note for note in report.notes
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports peaks")
def test_rules_of_one_job_share_their_launches(suite, monkeypatch):
    """A rule that was registered is accepted in the suite, measured, judged and reported."""
    loaded = MeasuredRule(
        "loaded_bytes", "bytes", "resident once the model is loaded", "memory",
        lambda result: result.memory.loaded_bytes, launches=1,
        exceeded=lambda base, head, limit: limit == 0.5,
    )  # fmt: skip
    unknown = replace(loaded, name="watts", value=lambda result: None)
    for rule in (loaded, unknown, StaticRule("calls", "1", "", lambda analysis: None)):
        monkeypatch.setitem(RULES._entries, rule.name, rule)
    rules = "gate:\n  loaded_bytes: 50%\n  watts: 1%\n  calls: 0%"
    suite.write_text(suite.read_text().replace("gate:", rules))
    launched = []
    launch = measured._launch
    monkeypatch.setattr(
        measured, "_launch", lambda *args: launched.append(args[2]) or launch(*args)
    )
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    (verdict,), (change,) = report.verdicts, report.measured
    assert launched == ["memory"] * 2  # one of each side, for both rules
    assert (change.metric, change.unit, len(change.base)) == ("loaded_bytes", "bytes", 1)
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "measured_rule")
    assert verdict.sentence.startswith("loaded_bytes ")
    (row,) = report.as_dict()["measured"]
    assert row["sentence"] == change.sentence
    assert report.as_dict()["memory"] == []
    assert any(
        "does not report watts, so that its rule was not checked" in note for note in report.notes
    )
    assert any("calls is not known for both sides" in note for note in report.notes)
    assert len(report.unchecked) == 2
    assert "2 rules not checked" in report.headline


def test_an_interrupted_gate_leaves_no_worker(suite, capsys, monkeypatch, tmp_path):
    pids = []
    real = WorkerArm.burst

    def burst(arm, count):
        pids.append(arm.pid)
        if len(pids) == 6:
            raise KeyboardInterrupt
        return real(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", burst)
    code, _, _ = command(capsys, "gate", str(suite), "--base", "set:", "--head", "set:",
                         "--results", str(tmp_path))  # fmt: skip
    assert code == 130
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_mistakes_end_with_2(suite, capsys):
    assert command(capsys, "gate", str(suite))[0] == 2
    code, _, err = command(capsys, "gate", str(suite), "--base", "nowhere")
    assert (code, err.count("error:")) == (2, 1)
