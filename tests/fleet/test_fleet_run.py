"""A real scheduler and three real agents: plan, run, report, resume, through the command line."""

import json

import pytest

import cspbench
from cspbench.core.files import file_digest
from cspbench.fleet.controller import execute_fleet, new_fleet_run
from cspbench.fleet.devices import plan_fleet
from cspbench.fleet.views import by_board
from cspbench.runner.executor import LocalExecutor
from cspbench.suite.load import load_suite
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
    # Three rounds; a launch that the load of this machine disturbed is repeated at most once.
    assert timed.groupby("case").size().between(3, 4).all()


def test_a_board_works_through_its_rounds_in_its_own_order(run):
    """Serial on a board: a launch ends before the next one of that board; rounds interleave."""
    for _, launches in run.launches.groupby("board"):
        assert launches["case"][:2].nunique() == 2, (
            "the first round has every case of the board once"
        )


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
    result = fleet.cspbench(*words)
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


def test_opencv_measures_what_was_sent_to_it(fleet, exported, connect, tmp_path):
    """The real backend, on a board that built nothing: its cache holds the artifact by content."""
    text = SUITE.replace("[fake]", "[opencv-cpu]").replace("  ms: [1, 2]\n", "")
    (tmp_path / "opencv.yaml").write_text(text.replace("rounds: 3", "rounds: 1"))
    client = connect(fleet.address, boards=3)
    suite = load_suite(tmp_path / "opencv.yaml", {"devices": "b"})
    plan = plan_fleet(suite, client.boards())
    directory = new_fleet_run(plan, tmp_path / "out")
    execute_fleet(plan, directory.path, client, LocalExecutor())
    [row] = cspbench.load(directory.path).cases.to_dict("records")
    assert (row["status"], row["board"], row["launches"]) == ("ok", "b", 1), row["reason"]
    assert row["max_relative_error"] <= 1e-4
    held = list((fleet.folder / "b1" / "cache" / "fleet").glob("*.onnx"))
    assert [file_digest(path) for path in held] == [file_digest(exported["onnx"].path)]
