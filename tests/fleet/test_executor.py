"""Launches through a hub that is invented: sending, losing, giving way to another board."""

import json
import threading
import time
from dataclasses import replace

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet import executor as module
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.client import Hub, Lost, Ticket, read_workers
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.executor import BoardExecutor, Files, Stopped, launch_bound
from cspbench.fleet.protocol import PROTOCOL, encode
from cspbench.jobs.time import TimeRequest

CASE = "yolov3-tiny-prn@96/fake/b1/t1/a"
CPU = {"cpu": "A"}
HOME = BoardInfo("a1", "tcp://a1", ("a",), backends={"fake": None}, environment=CPU)
TWIN = replace(HOME, name="a2", address="tcp://a2")


class Invented:
    """A hub with boards that answer from a script; an exception in it is raised."""

    def __init__(self, *script, boards=(HOME,)):
        self.script, self.present = list(script), list(boards)
        self.late, self.asked = [], []
        self._numbers = iter(range(100))

    def boards(self):
        if isinstance(self.present, Exception):
            raise self.present
        return self.present

    def new_launch(self):
        return f"s-{next(self._numbers)}"

    def ask(self, board, request, *, data=b"", launch="", seconds, queue_seconds):
        message = json.loads(request)
        self.asked.append((board.name, message, data))
        if message["kind"] == "put":
            return {"status": "ok", "complete": True}
        found = self.script.pop(0)
        if isinstance(found, Exception):
            raise found
        return found(message) if callable(found) else found


def done(message, late=()):
    outcome = {"status": "ok", "reason": "", "answer": {"load_ns": 5}, "log": "", "seconds": 2.0,
               "flags": ["throttled"],
               "notes": {"memory_bound": "cgroup", "board": "b9"}}  # fmt: skip
    return {"status": "done", "launch": message["launch"], "late": late, "outcome": outcome}


@pytest.fixture
def job(tmp_path):
    for name in ("m.pt2", "m.npz"):
        (tmp_path / name).write_bytes(name.encode())
    return TimeRequest(
        Case.parse(CASE), tmp_path / "m.pt2", tmp_path / "m.npz", warmup_seconds=2, max_seconds=6
    )


def executor(hub, seconds=0.0, stop=None):
    return BoardExecutor(hub, HOME, Files(), stop or threading.Event(), board_seconds=seconds)


def test_a_job_names_content_not_paths(job):
    hub = Invented(done)
    outcome = executor(hub).launch(job, 3, 9.0)
    assert (outcome.status, outcome.seconds, outcome.answer) == (Status.OK, 2.0, {"load_ns": 5})
    assert outcome.flags == ["throttled"]
    # Which board and which launch it was the controller knows; a board has no say in it.
    assert outcome.notes == {"memory_bound": "cgroup", "board": "a1", "launch": "s-0"}
    [(board, message, _)] = hub.asked
    assert (board, message["threads"], message["timeout"]) == ("a1", 3, 9.0)
    assert message["job"]["artifact"]["suffix"] == "pt2"
    assert "m.pt2" not in json.dumps(message)


def test_what_a_board_lacks_is_sent_and_the_launch_asked_for_again(job):
    def lacks(message):
        wanted = [message["job"]["reference"]["digest"]]
        return {"status": "missing", "launch": message["launch"], "missing": wanted}

    hub = Invented(lacks, done)
    assert executor(hub).launch(job, 1, 9.0).status is Status.OK
    assert [message["kind"] for _, message, _ in hub.asked] == ["launch", "put", "launch"]
    assert hub.asked[1][2] == b"m.npz"
    ids = [message["launch"] for _, message, _ in hub.asked if "launch" in message]
    assert len(set(ids)) == 2  # each asks for a launch of its own


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (Lost("no answer within 9 s"), Status.LOST, "board a1: no answer within 9 s"),
        ({"status": "refused", "reason": "too old"}, Status.FAILED, "board a1: too old"),
        (
            {"status": "done", "launch": "s-old"},
            Status.LOST,
            "board a1: it answered for launch s-old, not s-0",
        ),
    ],
)
def test_an_answer_that_is_none(job, answer, status, reason):
    outcome = executor(Invented(answer)).launch(job, 1, 9.0)
    assert (outcome.status, outcome.reason) == (status, reason)
    assert outcome.notes["board"] == "a1"


def test_a_late_answer_is_told_of_and_not_taken(job):
    hub = Invented(lambda message: done(message, late=["s-77"]))
    executor(hub).launch(job, 1, 9.0)
    assert hub.late == ["s-77"]


def test_an_answer_after_the_launch_was_given_up_is_only_counted_as_late():
    class Future:
        status = "finished"

    hub = Hub.__new__(Hub)
    hub.late = []
    ticket = Ticket("s-1", HOME, Future())
    hub._on_done(ticket)
    assert ticket.changed.is_set()
    assert hub.late == []
    ticket.done = True
    hub._on_done(ticket)
    assert hub.late == ["s-1"]


def test_a_lost_board_gives_way_to_its_like(job):
    hub = Invented(done, done, boards=(TWIN,))
    assert executor(hub).launch(job, 1, 9.0).status is Status.OK
    assert hub.asked[0][0] == "a2"


@pytest.mark.parametrize(
    "other",
    [
        replace(TWIN, labels=("b",)),  # another label
        replace(TWIN, environment={"cpu": "B"}),  # another machine
        replace(TWIN, backends={"fake": "no driver"}),  # it cannot
    ],
)
def test_nothing_else_takes_its_place(job, other):
    outcome = executor(Invented(boards=(other,))).launch(job, 1, 9.0)
    assert outcome.status is Status.LOST
    assert outcome.final
    assert "a1 is gone" in outcome.reason


def test_a_case_of_one_board_by_its_name_never_moves(job):
    job = replace(job, case=Case.parse(CASE.replace("/a", "/a1")))
    outcome = executor(Invented(boards=(TWIN,))).launch(job, 1, 9.0)
    assert outcome.final


def test_the_home_board_is_waited_for(job, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    hub = Invented(done)
    hub.present = OSError("the scheduler is away")
    threading.Timer(0.1, lambda: setattr(hub, "present", [HOME])).start()
    assert executor(hub, seconds=30).launch(job, 1, 9.0).status is Status.OK


def test_a_run_that_ends_launches_no_more(job):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        executor(Invented(done), stop=stop).launch(job, 1, 9.0)


def test_a_launch_is_bounded_by_its_phases(job):
    # 6 phases of 10 s, 2 s of warm-up and 6 s of sampling on top of theirs, 120 s to cool down,
    # and 60 s for the rest.
    assert launch_bound(job.to_json(), 10.0) == 60 + 8 + 120 + 60


def worker(announcement, **facts):
    return {"cspbench": announcement, "nthreads": 1, "resources": {"cspbench:cpu": 1.0}, **facts}


def test_workers_that_are_no_boards_are_left_out_with_a_sentence():
    good = Board(Settings("pi", ("arm",))).announce()
    workers = {
        "tcp://good": worker(good),
        "tcp://old": worker(good.replace(f'"protocol": {PROTOCOL}', '"protocol": 0')),
        "tcp://wide": worker(good, nthreads=4),
        "tcp://odd": worker(encode("board", {})),
        "tcp://else": {"nthreads": 8},
    }
    boards, refused = read_workers(workers)
    assert [(b.name, b.address, dict(b.resources)) for b in boards] == [
        ("pi", "tcp://good", {"cspbench:cpu": 1.0})
    ]
    assert len(refused) == 3
    assert "tcp://old speaks protocol 0" in refused[0]
    assert "has 4 threads" in refused[1]
    assert "announces no board" in refused[2]


def test_what_a_rebooted_board_left_behind_is_no_second_board():
    good = Board(Settings("pi")).announce()
    workers = {
        "tcp://before": worker(good, last_seen=1000.0),
        "tcp://after": worker(good, last_seen=1060.0),
    }
    assert [board.address for board in read_workers(workers)[0]] == ["tcp://after"]
    workers["tcp://before"]["last_seen"] = 1059.0  # alive: two boards of one name, refused later
    assert len(read_workers(workers)[0]) == 2


def test_without_a_scheduler_no_board_is_there_however_fresh_the_news():
    def gone():
        raise OSError("the connection to the scheduler was lost")

    hub = Hub.__new__(Hub)
    hub._asking, hub._connected = threading.Lock(), gone
    hub._boards = (time.monotonic(), [HOME])
    with pytest.raises(OSError, match="was lost"):
        hub.boards()
