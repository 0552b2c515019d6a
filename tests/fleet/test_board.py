"""A board by itself: requests in, answers out; a fake executor stands for the launch."""

import functools
import json
import threading
import time
from dataclasses import asdict

import pytest

from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.fleet.artifacts import Store, chunks, pair
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.doing import Connection, EndedError, Task
from cspbench.fleet.protocol import PROTOCOL, encode
from cspbench.fleet.state import changed, cool_down
from cspbench.machine.lock import timing_lock
from cspbench.runner.block_request import CHECK
from cspbench.runner.process import Outcome
from cspbench.suite.suite import check_label

CASE = "yolov3-tiny-prn@96/fake/b1/t1/a"


class FakeExecutor:
    """An executor that remembers its jobs and answers the same."""

    def __init__(self):
        self.jobs, self.blocks = [], []

    def block(self, request, timeout_seconds):
        self.blocks.append((request, timeout_seconds))
        ended = range(len(request.arms)) if request.reference is None else [0, CHECK, 1]
        for arm in ended:
            yield arm, Outcome(Status.OK, answer={"latencies_ns": [arm + 5]}, seconds=0.5)

    def launch(self, request, threads, timeout_seconds):
        self.jobs.append((request, threads, timeout_seconds))
        return Outcome(Status.OK, answer={"latencies_ns": [5]}, seconds=1.5)

    def series(self, jobs, timeout_seconds):
        raise AssertionError("boards prepare nothing")


@pytest.fixture
def executor():
    return FakeExecutor()


@pytest.fixture
def board(executor, tmp_path):
    settings = Settings("pi", ("arm",), cool_seconds=0)
    return Board(settings, executor, Store(tmp_path / "board"))


@pytest.fixture
def items(tmp_path):
    paths = (tmp_path / "m.pt2", tmp_path / "m.npz")
    for path in paths:
        path.write_bytes(path.suffix.encode())
    return dict(zip(pair(*paths), paths, strict=True))


def ask(board, kind, data=b"", **content):
    return json.loads(board.serve(encode(kind, content), data))


def launch(board, items, job="time", queue=60.0, **connection):
    artifact, reference = (asdict(item) for item in items)
    request = {"job": job, "case": CASE, "artifact": artifact, "reference": reference}
    text = encode("launch", {"launch": "s-1", "jobs": [request], "threads": 2, "timeout": 9.0,
                              "queue": queue})  # fmt: skip
    return json.loads(board.serve(text, connection=Connection(**connection)))


def block(board, items, jobs=("time", "time", "time"), reference=0, **connection):
    """Ask for a block of cases that share the files but have different threads."""
    artifact, reference_file = (asdict(item) for item in items)
    jobs = [
        {"job": job, "case": CASE.replace("t1", f"t{number}"), "artifact": artifact,
         "reference": reference_file}
        for number, job in enumerate(jobs, start=1)
    ]  # fmt: skip
    content = {"launch": "s-1", "jobs": jobs, "name": "4.0", "reference": reference, "seed": "7/3",
               "skip": 14, "timeout": 9.0, "queue": 60.0}  # fmt: skip
    return json.loads(board.serve(encode("block", content), connection=Connection(**connection)))


def put(board, items):
    for item, path in items.items():
        for offset, data in chunks(path):
            assert ask(board, "put", data, item=asdict(item), offset=offset)["complete"]


def test_a_board_announces_what_it_is(board):
    announced = json.loads(board.announce())
    assert (announced["protocol"], announced["name"], announced["labels"]) == (
        PROTOCOL,
        "pi",
        ["arm"],
    )
    assert announced["backends"]["opencv-cpu"] is None
    assert "cpu" in announced["devices"]
    assert announced["environment"]["cores_usable"] >= 1


def test_a_launch_says_what_it_lacks_and_works_once_it_has_it(board, executor, items):
    answer = launch(board, items)
    assert answer["status"] == "missing"
    assert set(answer["missing"]) == {item.digest for item in items}
    assert executor.jobs == []
    put(board, items)
    began = []
    answer = launch(board, items, began=began.append)
    assert began == ["s-1"]
    assert (answer["status"], answer["launch"], answer["late"]) == ("done", "s-1", [])
    [outcome] = answer["outcomes"]
    assert (outcome["arm"], outcome["status"], outcome["seconds"]) == (0, "ok", 1.5)
    assert outcome["notes"]["board_state"]["cooled_seconds"] == 0.0
    [(job, threads, timeout)] = executor.jobs
    assert (threads, timeout) == (2, 9.0)
    assert job.artifact.suffix == ".pt2"  # a path of the board


def test_a_block_has_the_board_to_itself_and_an_outcome_for_each_arm(board, executor, items):
    """Of three cases one finds no room beside the others: the controller asks for it again."""
    answer = block(board, items)
    assert answer["status"] == "missing"
    assert set(answer["missing"]) == {item.digest for item in items}
    put(board, items)
    began = []
    answer = block(board, items, began=began.append)
    assert began == ["s-1"]
    assert (answer["status"], answer["launch"]) == ("done", "s-1")
    assert [outcome["arm"] for outcome in answer["outcomes"]] == [0, CHECK, 1]
    for outcome in answer["outcomes"]:
        assert outcome["answer"] == {"latencies_ns": [outcome["arm"] + 5]}
        assert outcome["notes"]["board_state"]["cooled_seconds"] == 0.0
    [(request, timeout)] = executor.blocks
    assert (request.name, request.reference, request.seed, request.skip) == ("4.0", 0, "7/3", 14)
    assert [arm.case.threads for arm in request.arms] == [1, 2, 3]
    assert all(arm.artifact.is_file() for arm in request.arms)  # paths of the board
    assert request.first_only
    assert (timeout, executor.jobs) == (9.0, [])


@pytest.mark.parametrize("job", ["memory", "prepare", "load"])
def test_only_cases_that_are_timed_take_turns(board, executor, items, job):
    put(board, items)
    answer = block(board, items, ("time", job))
    assert answer["status"] == "refused"
    assert "take turns" in answer["reason"] or "cannot run the job" in answer["reason"]
    assert executor.blocks == []


@pytest.mark.parametrize("value", [float("nan"), {"fact": object}])
def test_an_arm_whose_answer_is_no_json_costs_no_other_arm(board, executor, items, value):
    """A backend may answer anything. Of a launch that failed no answer is sent."""
    bad = Outcome(Status.FAILED, "the worker's answer is malformed", {"backend": value})
    good = Outcome(Status.OK, answer={"latencies_ns": [5]})
    executor.block = lambda request, timeout: iter([(0, bad), (1, good)])
    put(board, items)
    answer = block(board, items, reference=None)
    assert [(one["status"], one["answer"]) for one in answer["outcomes"]] == [
        ("failed", {}), ("ok", {"latencies_ns": [5]}),
    ]  # fmt: skip


def test_results_that_no_answer_can_hold_are_refused_with_the_remedy(board, items, monkeypatch):
    monkeypatch.setattr("cspbench.fleet.board.MAX_BYTES", 100)
    put(board, items)
    answer = block(board, items)
    assert answer["status"] == "refused"
    assert "measure fewer cases in turns (measure.together)" in answer["reason"]


def test_a_launch_that_had_to_wait_too_long_is_not_begun(board, executor, items):
    put(board, items)
    answer = launch(board, items, queue=-1.0)  # any wait is too long
    assert answer["status"] == "refused"
    assert "the board was not free for 0 s" in answer["reason"]
    assert executor.jobs == []


def test_a_board_whose_machine_is_held_by_another_user_refuses_in_time(
    executor, items, tmp_path, monkeypatch, caplog
):
    """Its controller waits no longer, and the next launch finds the board free again."""
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(tmp_path))
    board = Board(Settings("pi", cool_seconds=0), executor, Store(tmp_path / "board"))
    put(board, items)
    with timing_lock("a local run"):
        answer = launch(board, items, queue=0.2)
    assert answer["status"] == "refused"
    assert "a local run) and did not end within" in answer["reason"]
    assert "a local run); waiting for it" in caplog.text
    assert executor.jobs == []
    assert launch(board, items)["status"] == "done"


def test_a_launch_waits_for_the_one_before_it_within_its_bound(board, executor, items):
    put(board, items)
    lost = Task("s-0", "the launch of a lost connection", "pi", Connection(), threading.Event())
    with board._to_itself(lost, 60):
        answer = launch(board, items, queue=0.1)
    assert (answer["status"], executor.jobs) == ("refused", [])
    assert answer["reason"] == "another launch did not end within 0 s"


def test_an_answer_that_had_no_way_back_is_told_with_the_next_one(board, items, monkeypatch):
    connected = [True]

    def cut_off(*words):
        connected[0] = False  # while the answer is written
        return encode(*words)

    put(board, items)
    with monkeypatch.context() as patch:
        patch.setattr("cspbench.fleet.board.encode", cut_off)
        launch(board, items, alive=lambda: connected[0])
    assert launch(board, items)["late"] == ["s-1"]
    assert launch(board, items)["late"] == []


# Told to end, in phases that an agent of tests/fleet/test_ending.py does not reach.


def test_a_board_that_cools_down_says_so_and_ends_when_told(executor, items, tmp_path, monkeypatch):
    hot = functools.partial(cool_down, read=lambda: 99.0)
    monkeypatch.setattr("cspbench.fleet.board.cool_down", hot)
    board = Board(Settings("pi", cool_seconds=3600), executor, Store(tmp_path / "board"))
    put(board, items)
    said = []

    def waits(launch, sentence):
        said.append((launch, sentence))
        threading.Timer(0.2, board.end).start()

    started = time.monotonic()
    with pytest.raises(EndedError, match="the board pi was told to end"):
        launch(board, items, waits=waits)
    assert time.monotonic() - started < 3
    assert said == [("s-1", "the board is hotter than 75 °C; it cools down, at most 3600 s")]
    assert executor.jobs == []


def test_a_launch_that_waits_for_the_one_before_it_ends_when_told(board, executor, items):
    put(board, items)
    lost = Task("s-0", "the launch of a lost connection", "pi", Connection(), threading.Event())
    said = []

    def waits(_, sentence):
        said.append(sentence)
        board.end()

    with board._to_itself(lost, 60), pytest.raises(EndedError):
        launch(board, items, waits=waits)
    assert said == ["another launch is still at work on this board"]
    assert executor.jobs == []


def test_what_a_lost_controller_asked_for_is_not_finished(board, items):
    """Its answer would have no way back."""
    put(board, items)
    with pytest.raises(EndedError):
        launch(board, items, alive=lambda: False)


def test_a_board_says_what_it_does_with_its_heartbeat(board, executor, items):
    seen = []
    executor.launch = lambda *_: seen.append(json.loads(board.now())) or Outcome(Status.OK)
    put(board, items)
    launch(board, items)
    [during] = seen
    assert (during["state"], during["what"]) == ("measuring", CASE)
    after = json.loads(board.now())
    assert (after["state"], after["what"]) == ("idle", "")
    assert 0 <= after["seconds"] < 60
    assert set(after["settings"]) == {"governor", "nvpmodel", "jetson_clocks"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (encode("format", {}), "cannot answer requests of kind 'format'"),
        (encode("launch", {}), "the request is malformed"),
        (
            encode("launch", {"launch": "x", "jobs": [{"job": "prepare"}]}),
            "a board cannot run the job 'prepare'",
        ),
        (
            encode(
                "launch", {"launch": "x", "jobs": [{"job": "load", "artifacts": ["/etc/passwd"]}]}
            ),
            "not files of the board",
        ),
        (encode("block", {"launch": "x"}), "the request is malformed"),
        (encode("block", {"launch": "x", "jobs": [{"job": "time"}]}), "the request is malformed"),
        (json.dumps({"protocol": 99, "kind": "launch"}), "the controller speaks protocol 99"),
        ("__import__('os')", "sent no message"),
    ],
)
def test_what_it_does_not_know_it_refuses_with_a_sentence(board, executor, text, reason):
    answer = json.loads(board.serve(text))
    assert answer["status"] == "refused"
    assert reason in answer["reason"]
    assert executor.jobs == []


def test_a_change_of_power_mode_during_a_launch_is_flagged(board, items, monkeypatch):
    states = iter([{"governor": "performance"}, {"governor": "powersave"}])
    monkeypatch.setattr("cspbench.fleet.board.state", lambda: next(states))
    put(board, items)
    assert launch(board, items)["outcomes"][0]["flags"] == ["board_changed"]


def test_a_change_during_a_block_flags_all_its_launches(board, items, monkeypatch):
    states = iter([{"governor": "performance"}, {"governor": "powersave"}])
    monkeypatch.setattr("cspbench.fleet.board.state", lambda: next(states))
    put(board, items)
    flags = [outcome["flags"] for outcome in block(board, items)["outcomes"]]
    assert flags == [["board_changed"]] * 3


def test_cooling_down_is_bounded():
    readings, slept = iter([80.0, 79.0, 74.0, 90.0]), []
    assert cool_down(75.0, 60.0, lambda: next(readings), slept.append) == 2.0
    assert slept == [1.0, 1.0]
    assert cool_down(75.0, 2.5, lambda: 99.0, slept.append) == 2.5  # and then it measures
    assert cool_down(75.0, 60.0, lambda: None, slept.append) == 0.0  # unknown


def test_only_settings_count_as_changed():
    before = {"governor": "performance", "load_1m": 0.1, "temperature_c": 40.0}
    assert changed(before, {**before, "load_1m": 3.0, "temperature_c": 60.0}) == []
    assert changed(before, {**before, "governor": None}) == ["governor"]


@pytest.mark.parametrize("text", ["", "A", "each", "a b", "a/b", "-a", "a" * 64, "../x"])
def test_what_is_no_label(text):
    with pytest.raises(InputError, match="is not a label"):
        check_label(text)


def test_workers_of_a_cluster_take_their_labels_from_the_environment(monkeypatch):
    monkeypatch.setenv("CSPBENCH_BOARD", "node-7")
    monkeypatch.setenv("CSPBENCH_LABELS", "epyc, big")
    assert Settings.from_environment() == Settings("node-7", ("epyc", "big"))
