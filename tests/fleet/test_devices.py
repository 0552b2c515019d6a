"""Placement of cases on boards: labels, backends, and which board may replace a lost one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.case import Case, Ref
from cspbench.errors import InputError
from cspbench.fleet.controller import new_fleet_run, resumable_fleet
from cspbench.fleet.devices import BoardInfo, plan_fleet, read_board
from cspbench.fleet.protocol import PROTOCOL, ProtocolError, encode
from cspbench.store.ratios import reference_of
from cspbench.store.rundir import read_run
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Measure, Suite

CPU = {"opencv-cpu": None}


def board(name, *labels, backends=None, **environment):
    return BoardInfo(
        name, f"tcp://{name}", labels, backends=backends or CPU, environment=environment
    )


def suite(*models, devices=(), backend="opencv-cpu"):
    cases = tuple(Case(Ref(model), (64, 64), Ref(backend)) for model in models)
    return Suite("tiny", cases, Measure(), devices=devices)


def test_a_fleet_of_one_measures_the_cases_of_a_local_run():
    fleet = plan_fleet(suite("peleenet"), [board("pi", "arm")])
    assert dict(fleet.placements) == {"peleenet@64/opencv-cpu/b1/t1": "pi"}


def test_boards_of_a_label_share_its_cases_out():
    models = ("peleenet", "csppeleenet", "yolov3-tiny", "yolov3-tiny-prn")
    boards = [board("a1", "a"), board("a2", "a"), board("b", "b")]
    fleet = plan_fleet(suite(*models, devices=("a", "b")), boards)
    assert sorted(fleet.placements.values()) == ["a1", "a1", "a2", "a2", "b", "b", "b", "b"]
    assert all(case.rpartition("/")[2] == name[0] for case, name in fleet.placements.items())


def test_each_means_every_board_by_its_name():
    fleet = plan_fleet(suite("peleenet", devices=("each",)), [board("x"), board("y", "x2")])
    assert [case.id.rpartition("/")[2] for case in fleet.plan.cases] == ["x", "y"]


def test_a_case_goes_where_its_backend_is():
    boards = [board("a1", "a", backends={"opencv-cpu": "no OpenCV"}), board("a2", "a")]
    fleet = plan_fleet(suite("peleenet", "csppeleenet", devices=("a",)), boards)
    assert set(fleet.placements.values()) == {"a2"}
    alone = plan_fleet(suite("peleenet", devices=("a",)), boards[:1])
    [case] = alone.plan.cases
    assert (case.status.value, case.reason) == ("unavailable", "a1: no OpenCV")
    assert alone.placements == {}


@pytest.mark.parametrize(
    ("named", "of_a2"),
    [
        (None, "peleenet@64/opencv-cpu/b1/t1/a2"),  # the first of the board
        ("csppeleenet@64/opencv-cpu/b1/t1", "csppeleenet@64/opencv-cpu/b1/t1/a2"),
    ],
)
def test_each_board_has_a_reference_of_its_own(named, of_a2, tmp_path):
    """The suite names a case without a board; each board has its own of it."""
    cases = replace(suite("peleenet", "csppeleenet", devices=("each",)), reference=named)
    fleet = plan_fleet(cases, [board("a1"), board("a2")])
    meta = new_fleet_run(fleet, tmp_path).meta
    assert meta["reference"] is None  # no case stands for all boards
    assert meta["fleet"]["references"] == {"a1": of_a2.replace("a2", "a1"), "a2": of_a2}
    stored = read_run(new_fleet_run(fleet, tmp_path).path).meta
    for case, placed in fleet.placements.items():
        assert reference_of(stored, case) == meta["fleet"]["references"][placed]


def test_a_board_that_lacks_the_reference_takes_the_first_of_its_cases(tmp_path):
    """Boards of a label share its cases out, so one of them has the suite's reference."""
    cases = replace(suite("peleenet", "csppeleenet", devices=("a",)),
                    reference="csppeleenet@64/opencv-cpu/b1/t1")  # fmt: skip
    fleet = plan_fleet(cases, [board("a1", "a"), board("a2", "a")])
    assert new_fleet_run(fleet, tmp_path).meta["fleet"]["references"] == {
        "a1": "peleenet@64/opencv-cpu/b1/t1/a", "a2": "csppeleenet@64/opencv-cpu/b1/t1/a",
    }  # fmt: skip


def test_the_only_board_has_the_reference_of_the_run(tmp_path):
    fleet = plan_fleet(suite("peleenet", devices=("a",)), [board("a1", "a")])
    meta = new_fleet_run(fleet, tmp_path).meta
    assert meta["reference"] == "peleenet@64/opencv-cpu/b1/t1/a"
    assert "references" not in meta["fleet"]


@pytest.mark.parametrize("pattern", ["peleenet@64/opencv-cpu/b1/t1", "peleenet*/a", "pel*"])
def test_patterns_may_leave_the_board_out(pattern):
    boards = [board("x", "a"), board("y", "b")]
    fleet = plan_fleet(suite("peleenet", "csppeleenet", devices=("a",)), boards, [pattern])
    assert [case.id for case in fleet.plan.cases] == ["peleenet@64/opencv-cpu/b1/t1/a"]


@pytest.mark.parametrize(
    ("boards", "devices", "sentence"),
    [
        ([], (), "the scheduler has no boards"),
        ([board("x"), board("x")], ("each",), "2 boards are named 'x'"),
        ([board("x"), board("y")], (), "does not say which to measure"),
        ([board("jetson-orin")], ("jetson-orim",), "did you mean 'jetson-orin'"),
    ],
)
def test_what_cannot_be_planned_is_said(boards, devices, sentence):
    with pytest.raises(InputError, match=sentence):
        plan_fleet(suite("peleenet", devices=devices), boards)


def test_a_run_of_a_fleet_is_resumed_on_the_very_boards_it_was_begun_on(tmp_path):
    card = {"host": "pc", "gpu": "NVIDIA T4", "gpu_uuid": "1"}
    plan = plan_fleet(suite("peleenet", devices=("each",)), [board("x", **card), board("y")])
    run = new_fleet_run(plan, tmp_path).path
    assert resumable_fleet(run, [board("x", **card)])[0].placements == dict(plan.placements)
    changed = [board("x", **{**card, "gpu_uuid": "2"})]
    with pytest.raises(InputError, match="resumed: gpu_uuid was '1' and is '2' on board x; start"):
        resumable_fleet(run, changed)
    assert resumable_fleet(run, changed, force=True)[0].placements == dict(plan.placements)


def test_an_agent_of_another_protocol_is_refused_with_a_sentence():
    text = encode("board", {}).replace(f'"protocol": {PROTOCOL}', f'"protocol": {PROTOCOL + 1}')
    with pytest.raises(
        ProtocolError, match=rf"agent at tcp://x speaks protocol {PROTOCOL + 1}.*upgrade this"
    ):
        read_board(text, "tcp://x", {})


def test_a_case_knows_its_board_in_its_id():
    case = replace(suite("peleenet").cases[0], board="pi")
    assert case.id == "peleenet@64/opencv-cpu/b1/t1/pi"


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True))
def test_an_id_with_a_board_is_read_back(label):
    text = f"peleenet@64/opencv-cpu/b1/t2/{label}"
    parsed = Case.parse(text)
    assert (parsed.board, parsed.threads, str(parsed)) == (label, 2, text)
    assert Case.parse(text).id == text
    assert Case.parse("peleenet@64/opencv-cpu/b1/t2").board is None


@pytest.mark.parametrize("end", ["/", "/A", "/a/b", "/-a", "/" + "a" * 64])
def test_what_is_no_board_is_no_id(end):
    with pytest.raises(InputError, match="was expected"):
        Case.parse(f"peleenet@64/opencv-cpu/b1/t2{end}")


SUITE = """name: tiny
matrix: {model: [peleenet@64], backend: [opencv-cpu]}
devices: %s
"""


@pytest.mark.parametrize(
    ("text", "devices"), [("each", ("each",)), ("x86", ("x86",)), ("[x86, pi-4]", ("x86", "pi-4"))]
)
def test_a_suite_names_boards(tmp_path, text, devices):
    (tmp_path / "s.yaml").write_text(SUITE % text)
    loaded = load_suite(tmp_path / "s.yaml")
    assert loaded.devices == devices
    assert any(note.startswith("devices: ") for note in loaded.notes)  # one machine says so


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[each, x86]", "each must stand alone"),
        ("[x86, x86]", "x86 is given twice"),
        ("[X86]", "'X86' is not a label"),
        ("[]", "must be each, or a list of labels"),
        ("3", "must be each, or a list of labels such as \\[x86\\], not 3"),
    ],
)
def test_a_wrong_choice_of_boards_has_its_place(tmp_path, text, sentence):
    (tmp_path / "s.yaml").write_text(SUITE % text)
    with pytest.raises(InputError, match=rf"s\.yaml:3:.*{sentence}"):
        load_suite(tmp_path / "s.yaml")
