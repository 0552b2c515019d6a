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
    summary = cspbench.run_json(
        ends(cspbench, "ok", "unsupported", "unavailable"), "--no-report", code=0
    )
    assert [(case["status"], case["reason"]) for case in summary["cases"]] == [
        ("ok", ""),
        ("unsupported", "no such operator"),
        ("unavailable", "no such device"),
    ]


def test_nothing_that_can_run_here_is_an_answer_too_0(cspbench):
    summary = cspbench.run_json(
        ends(cspbench, "ok"), "--no-report", code=0, FAKE_UNAVAILABLE="no such device"
    )
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
    summary = cspbench.run_json(ends(cspbench, "once"), "--no-report")
    (case,) = summary["cases"]
    assert case["status"] == "ok"
    assert summary["report"] is None
    assert not (cspbench.folder / "reports").exists()
    assert case["reason"] == "a launch was repeated: RuntimeError: the first time fails"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name a model or a suite to run"),
        (["run", "qick"], "did you mean 'quick'?"),
        (["run", "quick", "--only", "nothing"], "no case of 'quick' matches 'nothing'"),
        (["run", "quick", "--set", "nonsense"], "write key=value"),
        (["run", "quick", "--set", "gama=0.5"], "gama"),
        (["run", "quick", "--rounds", "0"], "--rounds"),
        (["run", "--resume", "nothing"], "there is no run 'nothing'"),
        (["run", "quick", "--force"], "--force is for --resume"),
        (["rnu"], "no such command 'rnu' (did you mean 'run'?)"),
        (["plan", "missing.yaml"], "missing.yaml: no such suite"),
        (["show", "latest"], "there is no run 'latest'"),
        (["show", "latest", "--launches", "--layers"], "--launches and --layers exclude each"),
        (["show", "latest", "--samples", "--layer-times"], "--layer-times and --samples exclude"),
        (["report", "nothing"], "there is no run 'nothing'"),
        (["fsck", "nothing"], "there is no run 'nothing'"),
        (["list", "modles"], "modles"),
        (["export", "csppelenet", "--to", "onnx", "--out", "x"], "did you mean 'csppeleenet'?"),
        (["export", "peleenet[@64", "--to", "onnx", "--out", "x"], "peleenet[@64"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(call, tmp_path, arguments, said):
    code, out, err = call(*arguments)
    assert code == 2
    assert said in err
    assert out == ""
    assert not (tmp_path / "results").exists()


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
    result = cspbench("run", ends(cspbench, "ok"), "--results", "file/below")
    assert result.returncode == 2
    assert "file/below" in result.stderr


def test_another_run_on_this_machine_is_waited_for_or_refused(cspbench, shared_environment):
    from filelock import FileLock

    with FileLock(f"{shared_environment['CSPBENCH_LOCK_DIR']}/cspbench-timing.lock"):
        result = cspbench("run", ends(cspbench, "ok"), "--no-wait")
    assert result.returncode == 2
    assert "another run measures on this machine" in result.stderr


def test_a_run_that_waits_in_vain_is_3(cspbench, shared_environment):
    from filelock import FileLock

    with FileLock(f"{shared_environment['CSPBENCH_LOCK_DIR']}/cspbench-timing.lock"):
        result = cspbench("run", ends(cspbench, "ok"), CSPBENCH_LOCK_SECONDS="0.1")
    assert result.returncode == 3
    assert "waiting for it, at most 0.1 s in all" in result.stderr
    assert "and did not end within 0.1 s; end it if it hangs, or wait longer" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (cspbench.folder / "results").exists()


def test_a_wrong_usage_of_the_installed_command_is_2(cspbench):
    result = cspbench("run", "qick")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: qick: no such suite")


@pytest.mark.parametrize("kind", ["models", "necks", "backends", "sensors", "suites", "runs"])
@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_list_prints_every_kind_in_every_form(call, kind, form):
    code, out, err = call("list", kind, "--format", form)
    assert code == 0
    if kind == "runs":  # there is none
        assert out.strip() == ("[]" if form == "json" else "")
        assert form == "json" or "no runs" in err
    else:
        assert "name" in out


def test_list_names_the_combinations_with_a_published_accuracy(call):
    rows = json.loads(call("list", "published", "csppeleenet*", "--format", "json")[1])
    found = {(row["name"], row["metric"]): row["percent"] for row in rows}
    assert found["csppeleenet@224", "top-1"] == 70.9  # Table 1 of the paper
    assert found["csppeleenet-ref+prn@320", "AP50"] == 38.5
    models = json.loads(call("list", "models", "csppeleenet", "--format", "json")[1])
    assert models[0]["published"] == "2 AP50, 5 top-1"


def test_list_takes_a_pattern(call):
    _, out, _ = call("list", "models", "csppelee*", "--format", "json")
    names = {row["name"] for row in json.loads(out)}
    assert {"csppeleenet", "csppeleenet-ref"} <= names
    assert all(name.startswith("csppelee") for name in names)


def test_list_tells_what_is_missing_and_what_another_distribution_brings(cspbench):
    backends = json.loads(cspbench("list", "backends", "--format", "json").stdout)
    here = {row["name"]: row["here"] for row in backends}
    assert here["torch-cpu"] == here["fake"] == "available"
    assert "not an NVIDIA Jetson board" in here["jetson"]


def test_list_runs_names_a_broken_one(call, tmp_path):
    (tmp_path / "results" / "20240501-120000-x").mkdir(parents=True)
    (tmp_path / "results" / "20240501-120000-x" / "run.json").write_text("{ torn")
    code, out, _ = call("list", "runs")
    assert code == 0
    assert "20240501-120000-x" in out
    assert "broken: " in out


def test_doctor_gives_every_warning_its_remedy(call):
    code, out, _ = call("doctor", "--format", "json")
    findings = json.loads(out)
    assert code == 0
    assert {finding["verdict"] for finding in findings} <= {"good", "warn", "info"}
    assert all(finding["remedy"] for finding in findings if finding["verdict"] == "warn")
    code, out, _ = call("doctor")
    assert code == 0
    assert all(finding["check"] in out for finding in findings)


def test_schema_and_version(call):
    assert {"name", "matrix", "measure"} <= set(json.loads(call("schema")[1])["properties"])
    assert call("--version")[1].startswith("cspbench")
