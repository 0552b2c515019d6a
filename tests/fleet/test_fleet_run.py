"""A real scheduler and three real agents: plan, run, report, resume, through the command line."""

import json
from collections import Counter, defaultdict

import pytest
from pandas.testing import assert_frame_equal

import cspbench
from cspbench.core.files import file_digest
from cspbench.fleet.controller import execute_fleet, new_fleet_run
from cspbench.fleet.devices import plan_fleet
from cspbench.fleet.views import by_board
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.runner.run import execute, new_run
from cspbench.suite.load import load_suite
from cspbench.views.frames import load
from tests.fleet.conftest import SUITE

CASES = [f"yolov3-tiny-prn@96/fake{ms}/b1/t1" for ms in ("", "[ms=2]")]


@pytest.fixture(scope="module")
def done(fleet, tmp_path_factory):
    """One run of two cases on every board, and what was printed."""
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE + "devices: each\n")
    words = ("run", str(path), "--scheduler", fleet.address, "--format", "json")
    result = fleet.cspbench(*words)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), result


@pytest.fixture(scope="module")
def run(fleet, done):
    return cspbench.load(fleet.folder / done[0]["run"])


def test_every_case_is_measured_once_on_every_board(run):
    assert list(run.cases["status"]) == ["ok"] * 6
    expected = {(f"{case}/{board}", board) for case in CASES for board in ("a1", "a2", "b1")}
    assert set(zip(run.cases["id"], run.cases["board"], strict=True)) == expected
    timed = run.launches[(run.launches["job"] == "time") & (run.launches["status"] == "ok")]
    assert (timed["board"] == timed["case"].str.rpartition("/")[2]).all()
    # Three rounds; a case that the load of this machine disturbed is repeated at most once, and
    # the reference beside it.
    assert timed.groupby("case").size().between(3, 5).all()


def test_the_cases_of_a_board_take_turns_there_with_the_reference_twice(run):
    for board, launches in run.launches.groupby("board"):
        first = launches[:3]
        assert set(first["case"]) == {f"{case}/{board}" for case in CASES}
        assert sorted(first["job"]) == ["check", "time", "time"]
    blocks = defaultdict(set)
    for launch in run.stored.launches:
        blocks[launch.session, launch.result.turns.block].add(launch.board)
        assert launch.launch.partition(".")[2] in ("0", "1", "check")
    assert all(len(boards) == 1 for boards in blocks.values())


def test_ratios_are_those_of_one_board_and_its_own_reference(run):
    ratios = run.ratios
    board = ratios["case"].str.rpartition("/")[2]
    assert list(ratios["case"]) == list(run.cases["id"])
    assert (ratios["reference"] == CASES[0] + "/" + board).all()
    assert (ratios["ratio_blocks"] >= 3).all()
    assert set(ratios["ratio_of"]) == {"running time"}
    views = by_board(run)
    assert [view.reference for view in views] == [f"{CASES[0]}/{b}" for b in ("a1", "a2", "b1")]
    for view in views:
        rows = ratios[ratios["case"].isin(view.cases["id"])].reset_index(drop=True)
        assert_frame_equal(view.ratios, rows)


def test_a_chosen_reference_gives_ratios_on_its_board_only(run):
    chosen = load(run.path, relative_to=f"{CASES[1]}/a2")
    assert list(chosen.ratios["case"]) == [f"{case}/a2" for case in CASES]


def test_state_of_the_board_is_kept_with_every_launch(run):
    for launch in run.stored.launches:
        state = launch.board_state
        assert {"temperature_c", "load_1m", "governor"} <= set(state["before"]) & set(
            state["after"]
        )
        assert 0 <= state["cooled_seconds"] <= 120


def test_each_board_has_its_environment_and_its_view(run):
    boards = run.stored.meta["fleet"]["boards"]
    assert set(boards) == {"a1", "a2", "b1"}
    assert boards["b1"]["labels"] == ["b"]
    assert "cpu" not in run.environment  # no machine's numbers stand for all
    views = by_board(run)
    assert [view.name for view in views] == [f"{run.name} on {name}" for name in boards]
    assert all(view.environment["cpu"] for view in views)
    assert [len(view.cases) for view in views] == [2, 2, 2]


def test_the_report_has_a_section_a_device_and_compares_across(fleet, done):
    page = (fleet.folder / done[0]["report"]).read_text()
    assert 'id="boards"' in page
    for board in ("a1", "a2", "b1"):
        assert f"{done[0]['run'].rpartition('/')[2]} on {board}" in page


def test_fsck_finds_nothing(fleet, done):
    result = fleet.cspbench("fsck", done[0]["run"])
    assert result.returncode == 0, result.stdout


def test_resuming_a_whole_run_launches_nothing(fleet, done, run):
    words = ("run", "--resume", done[0]["run"], "--scheduler", fleet.address, "--format", "json")
    result = fleet.cspbench(*words, "--no-report")
    assert result.returncode == 0, result.stderr
    again = cspbench.load(fleet.folder / done[0]["run"])
    assert len(again.stored.launches) == len(run.stored.launches)


def test_without_a_fleet_it_is_not_resumed(fleet, done):
    result = fleet.cspbench("run", "--resume", done[0]["run"])
    assert result.returncode == 2
    assert "was measured on a fleet: resume it with --scheduler" in result.stderr


def test_plan_shows_which_cases_go_where(fleet, suite):
    words = ("plan", str(suite), "--scheduler", fleet.address)
    both = fleet.cspbench(*words, "--set", "devices=[a, b]", "--format", "json")
    placed = {case["id"]: case["board"] for case in json.loads(both.stdout)["cases"]}
    # a1 and a2 share the cases of label a; those of b sit on b1.
    assert placed == {
        f"{CASES[0]}/a": "a1", f"{CASES[1]}/a": "a2", f"{CASES[0]}/b": "b1", f"{CASES[1]}/b": "b1",
    }  # fmt: skip
    table = fleet.cspbench(*words, "--set", "devices=b")
    assert "2 of 2 cases can run on b1" in table.stdout


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([], "the fleet has 3 boards (a1, a2, b1), and the suite does not say which to measure"),
        (["--set", "devices=[c]"], "no board has the label 'c'"),
    ],
)
def test_a_suite_must_say_which_boards(fleet, suite, settings, sentence):
    result = fleet.cspbench("run", str(suite), "--scheduler", fleet.address, *settings)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def launched(fleet, connect, text, folder):
    """Measure a suite on the board b1 without a report; returns the run."""
    (folder / "suite.yaml").write_text(text)
    client = connect(fleet.address, boards=3)
    plan = plan_fleet(load_suite(folder / "suite.yaml", {"devices": "b"}), client.boards())
    directory = new_fleet_run(plan, folder / "out")
    execute_fleet(plan, directory.path, client, LocalExecutor())
    return load(directory.path)


def test_an_arm_that_crashes_leaves_its_block_and_the_others_go_on(fleet, connect, tmp_path):
    """Six cases take turns on one board: three of them die while they load, twice each."""
    text = SUITE.replace("ms: [1, 2]", "ms: [1, 2, 3]\n  do: [ok, segfault]")
    run = launched(fleet, connect, text.replace("rounds: 3", "rounds: 2"), tmp_path)
    assert list(run.cases["status"]) == ["ok", "crashed"] * 3
    assert (run.cases["launches"][::2] >= 2).all()
    assert "SIGSEGV" in run.cases["reason"][1]
    first = run.launches[:7]  # six cases, and the reference again
    assert Counter(first["status"]) == {"ok": 4, "crashed": 3}
    good = [launch for launch in run.stored.launches if launch.good]
    assert {launch.result.turns.block for launch in good[:4]} == {"0.0"}
    assert set(run.launches["board"]) == {"b1"}
    assert len({launch.launch for launch in run.stored.launches}) == len(run.launches)


def test_a_board_gives_the_rows_that_a_local_run_gives(fleet, connect, exported, tmp_path):
    """Three cases of two backends: the same columns, kinds of ratios and numbers of blocks."""
    text = SUITE.replace("rounds: 3", "rounds: 2")
    text += "include: [{model: yolov3-tiny-prn@96, backend: opencv-cpu}]\n"
    far = launched(fleet, connect, text, tmp_path)
    plan = plan_suite(load_suite(tmp_path / "suite.yaml"))
    directory = new_run(plan, tmp_path / "local")
    execute(plan, directory)
    near = load(directory.path)
    assert list(far.cases["status"]) == list(near.cases["status"]) == ["ok"] * 3
    for frame in ("cases", "ratios", "launches"):
        assert list(getattr(far, frame)) == list(getattr(near, frame))
    assert_frame_equal(far.ratios.notna(), near.ratios.notna())
    assert list(far.ratios["ratio_of"]) == list(near.ratios["ratio_of"])
    for run in (far, near):
        assert (run.ratios["ratio_blocks"] >= 2).all()
        assert set(run.launches["job"]) == {"time", "check"}
    assert far.cases[["faults_per_inference", "system_share"]].notna().all(axis=None)


def test_opencv_measures_what_was_sent_to_it(fleet, exported, connect, tmp_path):
    """The real backend, on a board that built nothing: its cache holds the artifact by content."""
    text = SUITE.replace("[fake]", "[opencv-cpu]").replace("  ms: [1, 2]\n", "")
    run = launched(fleet, connect, text.replace("rounds: 3", "rounds: 1"), tmp_path)
    [row] = run.cases.to_dict("records")
    assert (row["status"], row["board"], row["launches"]) == ("ok", "b", 1), row["reason"]
    assert row["max_relative_error"] <= 1e-4
    held = list((fleet.folder / "b1" / "cache" / "fleet").glob("*.onnx"))
    assert [file_digest(path) for path in held] == [file_digest(exported["onnx"].path)]


def test_a_model_is_an_argument_on_a_fleet_too(fleet):
    """Every board, one thread: the boards' processors are not this machine's."""
    result = fleet.cspbench(
        "plan", "yolov3-tiny-prn@96", "--backend", "fake,fake[ms=2]", "--set", "devices=each",
        "--scheduler", fleet.address, "--format", "json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    planned = {case["id"] for case in json.loads(result.stdout)["cases"]}
    assert planned == {f"{case}/{board}" for case in CASES for board in ("a1", "a2", "b1")}
