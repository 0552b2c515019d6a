"""Which board does what: labels, seats, and what may stand in for a lost board."""

from dataclasses import replace

import pytest

from cspbench.errors import InputError
from cspbench.fleet.devices import BoardInfo, different, plan_fleet, read_announcement
from cspbench.fleet.protocol import ProtocolError, encode
from cspbench.ids import Ref
from cspbench.suite.case import Case, Measure, Suite

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
    assert dict(fleet.seats) == {"peleenet@64/opencv-cpu/b1/t1": "pi"}


def test_boards_of_a_label_share_its_cases_out():
    models = ("peleenet", "csppeleenet", "yolov3-tiny", "yolov3-tiny-prn")
    boards = [board("a1", "a"), board("a2", "a"), board("b", "b")]
    fleet = plan_fleet(suite(*models, devices=("a", "b")), boards)
    assert sorted(fleet.seats.values()) == ["a1", "a1", "a2", "a2", "b", "b", "b", "b"]
    assert all(case.rpartition("/")[2] == name[0] for case, name in fleet.seats.items())


def test_each_means_every_board_by_its_name():
    fleet = plan_fleet(suite("peleenet", devices=("each",)), [board("x"), board("y", "x2")])
    assert [case.id.rpartition("/")[2] for case in fleet.plan.cases] == ["x", "y"]


def test_a_case_goes_where_its_backend_is():
    boards = [board("a1", "a", backends={"opencv-cpu": "no OpenCV"}), board("a2", "a")]
    fleet = plan_fleet(suite("peleenet", "csppeleenet", devices=("a",)), boards)
    assert set(fleet.seats.values()) == {"a2"}
    alone = plan_fleet(suite("peleenet", devices=("a",)), boards[:1])
    [case] = alone.plan.cases
    assert (case.status.value, case.reason) == ("unavailable", "a1: no OpenCV")
    assert alone.seats == {}


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


def test_conditions_are_what_moves_numbers_not_names():
    one = {"cpu": "A", "libraries": {"torch": "2"}, "host": "x", "memory_bytes": 1}
    assert different(one, {**one, "host": "y", "memory_bytes": 2}) == []
    assert different(one, {**one, "cpu": "B", "libraries": {}}) == ["cpu", "libraries"]


def test_an_agent_of_another_protocol_is_refused_with_a_sentence():
    text = encode("board", {}).replace('"protocol": 1', '"protocol": 2')
    with pytest.raises(ProtocolError, match=r"agent at tcp://x speaks protocol 2.*upgrade this"):
        read_announcement(text, "tcp://x", {})


def test_a_case_knows_its_board_in_its_id():
    case = replace(suite("peleenet").cases[0], board="pi")
    assert case.id == "peleenet@64/opencv-cpu/b1/t1/pi"
