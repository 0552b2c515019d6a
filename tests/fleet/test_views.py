"""The run of two boards: ratios of each are those of its own reference, by hand."""

import pytest

from cspbench.fleet.views import by_board
from cspbench.store.rundir import RunDirectory
from cspbench.views.frames import load
from tests.launches import stored_launch

A, B = "peleenet@64/opencv-cpu/b1/t1", "csppeleenet@64/opencv-cpu/b1/t1"
CASES = [f"{case}/{board}" for case in (A, B) for board in ("x", "y")]
#: Milliseconds of the reference, the reference again, and the other case.
TIMES = {"x": (10, 10, 20), "y": (30, 33, 90)}
BLOCKS = 5


@pytest.fixture
def run(tmp_path):
    """Five blocks a board; on the board y the reference differs from itself."""
    cases = [{"id": case, "key": case, "status": None, "reason": ""} for case in CASES]
    seats = {case: case[-1] for case in CASES}
    fleet = {"boards": {"x": {}, "y": {}}, "seats": seats,
             "references": {board: f"{A}/{board}" for board in "xy"}}  # fmt: skip
    meta = {"suite": {"measure": {"rounds": BLOCKS}}, "cases": cases, "fleet": fleet,
            "reference": None}  # fmt: skip
    directory = RunDirectory.create(tmp_path, "20261126-120000-boards", meta)
    for board, (reference, again, other) in TIMES.items():
        for block in range(BLOCKS):
            for case, job, ms in ((A, "time", reference), (A, "check", again), (B, "time", other)):
                # The two sessions would mix their blocks if they had one name.
                directory.append(
                    in_turn(f"{case}/{board}", job, ms * (1 + block / 100), block, board)
                )
    return load(directory.path)


def in_turn(case, job, ms, block, board):
    turns = {"block": f"{block}.0", "counts": [1] * 8}
    timed = stored_launch(case, ms=[ms] * 8, turns=turns, session=f"s-{board}", board=board)
    return timed.to_json() | {"job": job, "number": block}


def test_each_board_has_its_ratios(run):
    # On y the case takes 90 ms, the two processes of the reference 30 and 33: exp of the mean log.
    rows = run.ratios
    assert list(rows["case"]) == CASES  # in plan order
    assert list(rows["reference"]) == [f"{A}/x", f"{A}/y"] * 2
    assert list(rows["ratio"]) == pytest.approx([1, 1.1, 2, 90 / (30 * 33) ** 0.5], rel=1e-3)
    assert list(rows["ratio_blocks"]) == [BLOCKS] * 4


def test_a_board_that_is_not_trusted_spoils_no_other_board(run):
    assert list(run.ratios["trusted"]) == [True, False, True, False]
    flagged = ["untrusted" in flags for flags in run.cases["flags"]]
    assert flagged == [False, True, False, True]


def test_the_view_of_a_board_has_the_same_ratios(run):
    for view, board in zip(by_board(run), "xy", strict=True):
        assert view.reference == f"{A}/{board}"
        rows = run.ratios[run.ratios["case"].str.endswith(board)]
        assert list(view.ratios["ratio"]) == list(rows["ratio"])
        assert list(view.ratios["trusted"]) == list(rows["trusted"])


def test_a_chosen_case_is_the_reference_of_its_board(run):
    rows = load(run.path, f"{B}/y").ratios
    assert list(rows["case"]) == [f"{A}/y", f"{B}/y"]
    assert rows["ratio"][0] == pytest.approx((30 * 33) ** 0.5 / 90, rel=1e-3)


def test_a_stored_run_of_boards_without_references_compares_no_boards(run):
    """Runs of earlier versions noted none, or one for all boards."""
    for reference in (None, f"{A}/x"):
        RunDirectory(run.path).update(
            lambda meta, reference=reference: (
                meta["fleet"].update(references={}), meta.update(reference=reference)
            )
        )  # fmt: skip
        boards = set(load(run.path).ratios["case"].str[-1])
        assert boards == ({"x"} if reference else set())
