"""Exit codes and the sentences that go with them."""

import json

import pytest

FAKE = """
name: ends
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  do: [{ends}]
measure: {{rounds: 1, warmup: 0.05, max_seconds: 0.05, target_ci: 50%, memory: false}}
"""


def ends(cspbench, *names):
    return cspbench.write("ends.yaml", FAKE.format(ends=", ".join(names)))


def test_what_cannot_run_here_is_an_answer_0(cspbench):
    summary = cspbench.run_json(ends(cspbench, "ok", "unsupported", "unavailable"), code=0)
    assert [(case["status"], case["reason"]) for case in summary["cases"]] == [
        ("ok", ""),
        ("unsupported", "no such operator"),
        ("unavailable", "no such device"),
    ]


def test_nothing_that_can_run_here_is_an_answer_too_0(cspbench):
    summary = cspbench.run_json(ends(cspbench, "ok"), code=0, FAKE_UNAVAILABLE="no such device")
    assert [case["status"] for case in summary["cases"]] == ["unavailable"]
    plan = cspbench("plan", "ends.yaml", FAKE_UNAVAILABLE="no such device")
    assert plan.returncode == 0
    assert "(1) no such device" in plan.stdout


def test_what_should_have_run_and_could_not_is_3(cspbench):
    summary = cspbench.run_json(ends(cspbench, "ok", "segfault", "wrong"), code=3)
    assert [case["status"] for case in summary["cases"]] == ["ok", "crashed", "failed"]
    assert "SIGSEGV" in summary["cases"][1]["reason"]
    report = (cspbench.folder / summary["report"]).read_text()
    assert "SIGSEGV" in report


def test_one_bad_end_in_between_is_made_up_for_0(cspbench):
    summary = cspbench.run_json(ends(cspbench, "once"))
    (case,) = summary["cases"]
    assert case["status"] == "ok"
    assert case["reason"] == "a launch was repeated: RuntimeError: the first time fails"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name a suite to run"),
        (["run", "qick"], "did you mean 'quick'?"),
        (["run", "quick", "--only", "nothing"], "no case of 'quick' matches 'nothing'"),
        (["run", "quick", "--set", "nonsense"], "write key=value"),
        (["run", "quick", "--set", "gama=0.5"], "gama"),
        (["run", "quick", "--rounds", "0"], "--rounds"),
        (["run", "--resume", "nothing"], "there is no run 'nothing'"),
        (["rnu"], "no such command 'rnu' (did you mean 'run'?)"),
        (["plan", "missing.yaml"], "missing.yaml: no such suite"),
        (["show", "latest"], "there is no run 'latest'"),
        (["report", "nothing"], "there is no run 'nothing'"),
        (["fsck", "nothing"], "there is no run 'nothing'"),
        (["list", "modles"], "modles"),
        (["export", "csppelenet", "--to", "onnx", "--out", "x"], "did you mean 'csppeleenet'?"),
        (["export", "peleenet[@64", "--to", "onnx", "--out", "x"], "peleenet[@64"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(cspbench, arguments, said):
    result = cspbench(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert not (cspbench.folder / "results").exists()


def test_all_mistakes_of_a_suite_are_told_with_their_place_and_nothing_runs(cspbench):
    cspbench.write(
        "wrong.yaml",
        "name: wrong\nmatrix:\n  model: [pelenet]\n  backend: [opencv-gpu]\n  gamma: [1.5]\n",
    )
    result = cspbench("run", "wrong.yaml")
    assert result.returncode == 2
    problems = result.stderr.splitlines()
    assert len(problems) == 3
    assert all(problem.startswith("error: wrong.yaml:") for problem in problems)
    assert not (cspbench.folder / "results").exists()


def test_a_place_that_cannot_be_written_is_2(cspbench):
    (cspbench.folder / "file").touch()
    result = cspbench("run", ends(cspbench, "ok"), "--out", "file/below")
    assert result.returncode == 2
    assert "file/below" in result.stderr


def test_another_run_on_this_machine_is_waited_for_or_refused(cspbench, shared_environment):
    from filelock import FileLock

    with FileLock(f"{shared_environment['CSPBENCH_LOCK_DIR']}/cspbench-timing.lock"):
        result = cspbench("run", ends(cspbench, "ok"), "--no-wait")
    assert result.returncode == 2
    assert "another run measures on this machine" in result.stderr


def test_the_other_commands_end_with_0(cspbench):
    for kind in ("models", "necks", "backends", "sensors", "suites", "runs"):
        result = cspbench("list", kind)
        assert result.returncode == 0, result.stderr
    models = json.loads(cspbench("list", "models", "csppelee*", "--format", "json").stdout)
    assert {"csppeleenet", "csppeleenet-ref"} <= {row["name"] for row in models}
    backends = json.loads(cspbench("list", "backends", "--format", "json").stdout)
    here = {row["name"]: row["here"] for row in backends}
    assert here["torch-cpu"] == here["fake"] == "available"
    assert "not an NVIDIA Jetson board" in here["jetson"]
    findings = json.loads(cspbench("doctor", "--format", "json").stdout)
    assert {finding["verdict"] for finding in findings} <= {"good", "warn", "info"}
    assert all(finding["remedy"] for finding in findings if finding["verdict"] == "warn")
    assert cspbench("doctor").returncode == 0
    assert cspbench("--version").stdout.startswith("cspbench")
    schema = json.loads(cspbench("schema").stdout)
    assert {"name", "matrix", "measure"} <= set(schema["properties"])


def test_a_reader_that_leaves_early_is_no_error(cspbench):
    """``cspbench list models | head -1``: no traceback when the pipe breaks."""
    process = cspbench.start("list", "models", "--format", "json")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in err
