"""Whole gates: real repositories, suites and exports; invented arms unless a test says real."""

import contextlib

import pytest

from cspbench.core.statuses import ExitCode, Status
from cspbench.errors import InputError
from cspbench.gating import job
from cspbench.gating.job import GateSettings
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import Verdict
from cspbench.suite.load import load_suite
from tests.gating.arms import Machine, lost
from tests.gating.gates import command, gate, times

CASE = '"darknet:models/smallcsp.cfg"@64/opencv-cpu/b1/t1'


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
    assert report.static
    assert not any(change.blocked for change in report.static)
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


def test_mistakes_end_with_2(suite, capsys):
    assert command(capsys, "gate", str(suite))[0] == 2
    code, _, err = command(capsys, "gate", str(suite), "--base", "nowhere")
    assert (code, err.count("error:")) == (2, 1)
