"""A gate on a board of a fleet: verdicts and exit codes of a local gate, measured elsewhere."""

import json
import sys

import pytest

from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.duet import bursts_of, measure_duet, one_block, profiles_of
from cspbench.fleet.gate import choose_board
from cspbench.gating.duet import SIDES
from cspbench.gating.why import NoProfileError
from cspbench.jobs.load import LoadRequest
from cspbench.jobs.spec import JOBS
from cspbench.runner.arms import ArmLostError
from cspbench.runner.process import Outcome
from cspbench.suite.rules import MeasuredRule, rules
from tests.fleet.machines import eventually, machines

GATE = """
name: gated
defaults: {threads: 2}  # elapsed time decides: the backend sleeps
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [2]
measure: {warmup: 0.01, timeout_seconds: 60, sensors: none}
gate: {latency: {min_effect: 5%, tolerance: 8%}}
"""
CASE = "yolov3-tiny-prn@96/fake/b1/t2"


@pytest.fixture
def gated(tmp_path):
    path = tmp_path / "gated.yaml"
    path.write_text(GATE)
    return str(path)


def gate(fleet, suite, *words, scheduler=True):
    """The exit code, the report and what was said on the way."""
    where = ("--scheduler", fleet.address, "--on", "b") if scheduler else ()
    result = fleet.cspbench("gate", suite, *words, *where, "--format", "json")
    report = json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}
    return result.returncode, report, result.stderr


# -- whole gates on a real board -----------------------------------------------------------------


@pytest.mark.slow
def test_a_slower_head_is_a_regression_there_as_here(fleet, exported, gated):
    """Both sides are measured by the board's agent, which alone has the board's timing lock."""
    code, report, said = gate(fleet, gated, "--base", "set:ms=2", "--head", "set:ms=4")
    assert code == 1, said
    [verdict] = report["verdicts"]
    assert (verdict["case"], verdict["verdict"]) == (CASE, "slower")
    assert verdict["reason"] == "confirmed"
    assert verdict["ratio"] == pytest.approx(2, rel=0.15)  # 4 ms of sleep over 2
    assert "the base's backend has no profiler of layers" in verdict["sentence"]
    # A gate of this machine reports the same; one that measures nothing is enough to see it.
    nothing = ("--base", "set:do=ok", "--head", "set:do=unsupported")
    _, local, _ = gate(fleet, gated, *nothing, scheduler=False)
    assert set(report) == set(local)
    assert "measuring on board b1" in said
    assert "measured on board b1, both sides in its environment" in report["notes"]
    blocks = next(iter(report["generations"].values()))
    assert {block["schedule"] for block in blocks} == {"duet"}
    assert {block["first"] for block in blocks} == {"base", "head"}


@pytest.mark.slow
def test_the_same_on_both_sides_passes(fleet, exported, gated):
    code, report, said = gate(fleet, gated, "--base", "set:ms=2")
    assert code == 0, said
    assert [verdict["verdict"] for verdict in report["verdicts"]] == ["same"]


@pytest.mark.slow
def test_every_measured_rule_is_checked_there(fleet, exported, tmp_path):
    """Each is a launch of a job: of memory, of energy, of a load."""
    suite = tmp_path / "rules.yaml"
    suite.write_text(GATE.replace("gate: {", "gate: {model_bytes: 0%, first_inference: 100%, "))
    code, report, said = gate(fleet, str(suite), "--base", "set:ms=2")
    assert code == 0, said
    assert {change["metric"] for change in report["measured"]} == {"model_bytes", "first_inference"}
    assert all(value > 0 for change in report["measured"] for value in change["base"])
    assert not report["unchecked"]


def test_a_board_can_run_the_job_of_every_measured_rule():
    jobs = {rule.job for rule in rules().values() if isinstance(rule, MeasuredRule)}
    assert {"load", "memory"} <= jobs
    assert {job for job in jobs if not JOBS.get(job).on_board} == set()


@pytest.mark.slow
def test_a_head_that_cannot_be_loaded_is_unmeasured(fleet, exported, gated):
    code, report, said = gate(fleet, gated, "--base", "set:do=ok", "--head", "set:do=segfault")
    assert code == 3, said
    [verdict] = report["verdicts"]
    assert (verdict["verdict"], verdict["reason"]) == ("unmeasured", "arm_ended")
    assert "SIGSEGV" in verdict["sentence"]


@pytest.mark.slow
def test_a_head_that_no_backend_supports_is_one_sided(fleet, exported, gated):
    code, report, said = gate(fleet, gated, "--base", "set:do=ok", "--head", "set:do=unsupported")
    assert code == 3, said
    assert report["verdicts"][0]["reason"] == "one_side_only"


@pytest.mark.slow
def test_a_board_that_is_lost_leaves_its_cases_unmeasured(exported, gated, tmp_path):
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        fleet.agent("b1", "--label", "b")
        eventually(lambda: "works for" in fleet.log("b1"))
        run = fleet.start(
            "gate", sys.executable, "-m", "cspbench", "gate", gated, "--base", "set:ms=2",
            "--scheduler", fleet.address, "--results", str(tmp_path / "results"),
        )  # fmt: skip
        eventually(lambda: "measuring" in fleet.cspbench("fleet", fleet.address).stdout)
        fleet.kill("b1")
        assert run.wait(240) == 3, fleet.log("gate")
        assert "unmeasured" in fleet.log("gate")
        assert "board b1" in fleet.log("gate")
        assert "Traceback" not in fleet.log("gate")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--base", f"env:{sys.executable}"], "a board has one of its own"),
        (["--base", "set:ms=2", "--on", "nowhere"], "no board has the label 'nowhere'"),
    ],
)
def test_what_a_board_cannot_do_is_refused(fleet, gated, words, sentence):
    result = fleet.cspbench("gate", gated, "--scheduler", fleet.address, "--on", "b", *words)
    assert result.returncode == 2, result.stdout
    assert sentence in result.stderr


# -- which board ---------------------------------------------------------------------------------

ONE, TWO = BoardInfo("one", "tcp://1", ("orin",)), BoardInfo("two", "tcp://2", ("orin", "big"))


def test_the_board_of_a_gate_is_the_first_of_its_label():
    assert choose_board([ONE, TWO], "orin") is ONE
    assert choose_board([ONE, TWO], "big") is TWO
    assert choose_board([ONE, TWO], "two") is TWO
    assert choose_board([ONE], None) is ONE


@pytest.mark.parametrize(
    ("boards", "label", "sentence"),
    [
        ([], None, "the scheduler has no boards"),
        ([ONE, TWO], None, "give --on LABEL"),
        ([ONE, TWO], "orim", "did you mean 'orin'"),
    ],
)
def test_without_such_a_board_it_says_what_there_is(boards, label, sentence):
    with pytest.raises(InputError, match=sentence):
        choose_board(boards, label)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--on", "b"], "give its --scheduler"),
        (["--self-test", "--scheduler", "tcp://127.0.0.1:1"], "beside itself: leave out "),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, words, sentence):
    from cspbench.cli.main import main

    with pytest.raises(SystemExit) as end:
        main(["gate", "quick", "--base", "set:", *words])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


# -- bursts of a faulty board --------------------------------------------------------------------


def burst(**changes):
    return {"ns": 2000, "count": 2, "latencies_ns": [900, 1100], "lost_ns": 0, **changes}


def side(second):
    return [burst(), second]


def test_bursts_are_read_as_they_were_sent():
    base = side(burst(lost_ns=None))
    head = side(burst(ns=1000, throttled_ns=7))  # by the events of a device
    bursts = bursts_of(Outcome(Status.OK, answer={"base": base, "head": head}), "duet", 2)
    assert [one.inference_ns for one in bursts["head"]] == [1000, 500]
    assert [one.lost_ns for one in bursts["base"]] == [0, None]
    told = [one.result for one in bursts["head"]]
    assert [(one.by_device, one.throttled_ns) for one in told] == [(False, None), (True, 7)]


@pytest.mark.parametrize(
    "head",
    [
        {}, [burst()], [burst()] * 3, [burst()] * 10**5, None, "12", side(None), side({}),
        side(burst(ns=-1)), side(burst(ns=0)), side(burst(ns=float("nan"))), side(burst(ns="x")),
        side(burst(ns=10**30)), side(burst(count=0)), side(burst(count=3)), side(burst(lost_ns=-1)),
        side(burst(latencies_ns=[0, 0])), side(burst(latencies_ns=[1])),
    ],
)  # fmt: skip
def test_malformed_bursts_are_no_measurement(head):
    with pytest.raises(ArmLostError, match="the board's bursts are malformed") as lost:
        bursts_of(Outcome(Status.OK, answer={"base": side(burst()), "head": head}), "duet", 2)
    assert lost.value.reason == "arm_ended"


def test_a_board_profiles_the_layers_of_both_sides(opencv_job):
    load = LoadRequest.from_json({**opencv_job, "layers": True})
    work = one_block({"base": load, "head": load}, "duet", SIDES, 0)
    message = json.loads(json.dumps({**work.content, "timeout": 60.0}))
    outcome = measure_duet(message, work.jobs, None)
    profiles = profiles_of(Outcome(outcome.status, answer=json.loads(json.dumps(outcome.answer))))
    for times in profiles.values():
        assert times.total_ns > 0
        assert sum(ns for _, _, ns, _ in times.entries) > times.total_ns / 2


def test_profiles_of_a_board_are_read_or_their_lack_has_its_reason():
    profile = {"entries": [["conv1", "Conv", 900, ["conv1"]]], "nodes": [], "total_ns": 1000}
    found = profiles_of(Outcome(Status.OK, answer={"base": profile, "head": profile}))
    assert [times.entries[0][2] for times in found.values()] == [900, 900]
    with pytest.raises(NoProfileError, match="has no profiler"):
        profiles_of(Outcome(Status.UNSUPPORTED, "the base's backend has no profiler of layers"))
    for answer in ({}, {"base": profile}, {"base": profile, "head": {**profile, "total_ns": 0}}):
        with pytest.raises(ArmLostError, match="the board's profiles are malformed"):
            profiles_of(Outcome(Status.OK, answer=answer))


@pytest.mark.parametrize(
    ("note", "arm", "reason"),
    [
        ({"arm": "head", "reason": "no_answer"}, "head", "no_answer"),
        ({"arm": "\x1b[2J", "reason": "confirmed"}, "board", "arm_ended"),
        ("gone", "board", "arm_ended"),
    ],
)
def test_a_lost_arm_has_a_reason_of_the_list(note, arm, reason):
    outcome = Outcome(Status.TIMEOUT, "no answer within 5 s", notes={"lost": note})
    with pytest.raises(ArmLostError) as lost:
        bursts_of(outcome, "duet", 2)
    assert (lost.value.arm, lost.value.reason) == (arm, reason)
