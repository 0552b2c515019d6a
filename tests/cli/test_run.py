"""``cspbench run`` and what reads its results, with real OpenCV and torch, end to end."""

import json

import pytest

import cspbench as package

#: Promised by ``run --format json``.
CASE_FIELDS = {
    "id", "status", "reason", "latency_ms", "latency_ms_low", "latency_ms_high", "fps", "ratio",
    "ratio_low", "ratio_high", "ratio_of", "flags",
}  # fmt: skip
CASES = [
    "peleenet@64/opencv-cpu/b1/t1",
    "csppeleenet@64/opencv-cpu/b1/t1",
    "yolov3-tiny-prn@96/opencv-cpu/b1/t1",
    "yolov3-tiny-prn@96/torch-cpu/b1/t1",
]


@pytest.fixture(scope="module")
def summary(quick):
    _, result = quick
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loaded(quick, summary):
    command, _ = quick
    return package.load(command.folder / summary["run"])


def test_run_prints_one_object_as_its_last_line(quick, summary):
    command, _ = quick
    assert {"run", "report", "cases"} <= set(summary)
    assert [case["id"] for case in summary["cases"]] == CASES
    assert (command.folder / summary["run"] / "run.json").exists()
    for case in summary["cases"]:
        assert set(case) == CASE_FIELDS
        assert case["status"] == "ok", case["reason"]
        assert 0 < case["latency_ms_low"] <= case["latency_ms"] <= case["latency_ms_high"]
        assert case["fps"] == pytest.approx(1000 / case["latency_ms"])
        assert 0 < case["ratio_low"] <= case["ratio"] <= case["ratio_high"]
        assert case["ratio_of"] == "running time"


def test_the_report_is_one_file_that_works_offline(quick, summary):
    command, _ = quick
    page = (command.folder / summary["report"]).read_text()
    assert page.lower().startswith("<!doctype html>")
    for case in CASES:
        assert case in page


def test_every_launch_is_stored_with_its_samples(loaded):
    timed = loaded.launches[loaded.launches["job"] == "time"]
    assert (timed["status"] == "ok").all()
    assert set(timed["case"]) == set(CASES)
    assert timed.groupby("case").size().min() >= 2  # more where a launch was disturbed
    assert (timed["samples"] >= 5).all()
    assert set(timed["stop"]) <= {"target_ci", "max_seconds"}
    counted = loaded.samples.groupby("case").size()
    assert (counted == loaded.cases.set_index("id")["samples"][counted.index]).all()
    assert (loaded.samples["latency_ms"] > 0).all()


def test_costs_stand_beside_the_measured_numbers(loaded):
    rows = loaded.cases.set_index("id")
    assert rows[["params_m", "macs_g", "bflops"]].notna().all().all()
    # The CSP form of PeleeNet has fewer MACs than PeleeNet; both backends measure one model.
    macs = rows["macs_g"]
    assert macs[CASES[1]] < macs[CASES[0]]
    assert macs[CASES[2]] == macs[CASES[3]]
    assert set(loaded.layers["model"]) == {case.split("/")[0] for case in CASES}


def test_every_backend_agreed_with_torch(loaded):
    assert (loaded.cases["max_relative_error"] <= 1e-4).all()


def test_the_machine_is_recorded(loaded):
    environment = loaded.environment
    assert environment["cores_usable"] >= 1
    assert {"torch", "numpy"} <= set(environment["libraries"])
    assert loaded.stored.meta["suite"]["digest"]
    backend = loaded.stored.launches[0].result.backend
    assert backend["threads"] == 1


def test_show_prints_the_case_table(quick):
    command, _ = quick
    result = command("show", "latest")
    assert result.returncode == 0
    for case in CASES:
        assert case in result.stdout
    assert "latency_ms" in result.stdout


@pytest.mark.parametrize(
    ("option", "columns"),
    [
        ("--launches", {"case", "median_ms", "stop", "steal_s"}),
        ("--samples", {"case", "number", "latency_ms"}),
        ("--layers", {"model"}),
    ],
)
def test_show_prints_every_frame(quick, option, columns):
    command, _ = quick
    result = command("show", "latest", option, "--format", "json")
    rows = json.loads(result.stdout)
    assert rows
    assert columns <= set(rows[0])


def test_show_writes_a_file(quick, tmp_path):
    command, _ = quick
    out = tmp_path / "cases.csv"
    assert command("show", "latest", "--format", "csv", "--out", str(out)).returncode == 0
    assert len(out.read_text().splitlines()) == 1 + len(CASES)


def test_report_is_written_again(quick, tmp_path):
    command, _ = quick
    out = tmp_path / "again.html"
    result = command("report", "latest", "--out", str(out))
    assert result.returncode == 0
    assert result.stdout.strip() == str(out)
    assert CASES[0] in out.read_text()


def test_list_runs_shows_the_run(quick, summary):
    command, _ = quick
    rows = json.loads(command("list", "runs", "--format", "json").stdout)
    assert [(row["suite"], row["cases"], row["ok"]) for row in rows] == [("quick", 4, 4)]


def test_plan_knows_from_history_how_long_it_takes(quick):
    command, _ = quick
    plan = json.loads(command("plan", "quick", "--format", "json").stdout)
    assert len(plan["cases"]) == 6
    assert set(CASES) <= {case["id"] for case in plan["cases"]}
    assert all(case["status"] == "ready" for case in plan["cases"])
    assert plan["estimated_seconds"] > 0
    assert "from earlier runs for 4 of 6 cases" in command("plan", "quick").stdout


def test_fsck_finds_nothing_wrong(quick):
    command, _ = quick
    result = command("fsck", "latest")
    assert (result.returncode, "0 problems" in result.stdout) == (0, True)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_export_writes_the_very_artifact_that_was_measured(quick, tmp_path, kind):
    command, _ = quick
    out = tmp_path / f"model.{kind}"
    result = command("export", "yolov3-tiny-prn@96", "--to", kind, "--out", str(out))
    assert (result.returncode, result.stdout.strip()) == (0, str(out))
    artifacts = command.folder.parent.glob(f"cspbench*/cache/artifacts/*.{kind}")
    assert out.read_bytes() in [path.read_bytes() for path in artifacts]


def test_a_second_run_prepares_nothing_and_only_measures_what_is_asked_for(quick):
    command, first = quick
    assert "preparing 1/" in first.stderr
    again = command("run", "quick", "--only", CASES[0], "--rounds", "1", "--results", "again",
                    "--set", "measure.memory=true", "--set", "measure.layers=true")  # fmt: skip
    assert again.returncode == 0
    assert "preparing" not in again.stderr
    assert CASES[0] in again.stdout
    assert CASES[1] not in again.stdout
    (folder,) = (command.folder / "again").iterdir()
    launches = package.load(folder).stored.launches
    assert {launch.job for launch in launches} == {"time", "memory"}  # layers: in its bursts
    (memory,) = (launch.result.memory for launch in launches if launch.job == "memory")
    assert memory.peak_memory_bytes > 1_000_000  # its weights alone are more
    shown = command("show", str(folder), "--layer-times", "--format", "json")
    rows = json.loads(shown.stdout)
    # Entries and what lies between them make the whole inference.
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[-1]["entry"] == "(between layers)"
    assert all(row["gflops_per_s"] > 0 for row in rows if row["kind"] == "conv")
    assert "time_ms" in command("show", str(folder), "--layer-times").stdout
