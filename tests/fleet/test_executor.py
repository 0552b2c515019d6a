"""Launches through a fake client: sending, losing a board, moving to another board."""

import json
import threading
import time
from dataclasses import replace

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet import executor as module
from cspbench.fleet.answers import Answer, read_answer
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.client import (
    MAX_SENTENCES,
    FleetClient,
    LostRequestError,
    PendingRequest,
)
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.executor import BoardExecutor, Files, Stopped
from cspbench.fleet.protocol import PROTOCOL, encode
from cspbench.fleet.work import in_turns, single
from cspbench.fleet.workers import read_workers
from cspbench.jobs.time import TimeRequest
from cspbench.runner.block_request import CHECK, BlockRequest

CASE = "yolov3-tiny-prn@96/fake/b1/t1/a"
MACHINE = {"cpu": "A", "gpu": "NVIDIA GeForce RTX 3090", "gpu_uuid": "1"}
HOME = BoardInfo("a1", "tcp://a1", ("a",), backends={"fake": None}, environment=MACHINE)
TWIN = replace(HOME, name="a2", address="tcp://a2", environment={**MACHINE, "gpu_uuid": "2"})


class FakeClient:
    """A client whose boards answer from a script; an exception in the script is raised."""

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

    def ask(self, board, request, *, data=b"", launch="", seconds, queue_seconds, waits=None):
        message = json.loads(request)
        self.asked.append((board.name, message, data))
        if message["kind"] == "put":
            return Answer("ok")
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        answer = answer(message) if callable(answer) else answer
        return read_answer(encode("answer", answer), board.name)

    def note_late(self, launches):
        self.late += launches


def report(arm=0, **changes):
    """What a board says of a launch; the answer is another one for each arm."""
    return {"arm": arm, "status": "ok", "reason": "", "answer": {"load_ns": 5 + arm}, "log": "",
            "seconds": 2.0, "flags": ["throttled"], "final": False,
            "notes": {"memory_bound": "cgroup", "board": "b9"}} | changes  # fmt: skip


def done(message, late=(), arms=(0,), **changes):
    outcomes = [report(arm, **changes) for arm in arms]
    return {"status": "done", "launch": message["launch"], "late": late, "outcomes": outcomes}


def with_arms(*arms, **changes):
    """An answer to a block that brings outcomes of these arms."""
    return lambda message: done(message, arms=arms, **changes)


@pytest.fixture
def job(tmp_path):
    for name in ("m.pt2", "m.npz"):
        (tmp_path / name).write_bytes(name.encode())
    return TimeRequest(
        Case.parse(CASE), tmp_path / "m.pt2", tmp_path / "m.npz", warmup_seconds=2, max_seconds=6
    )


@pytest.fixture
def block(job):
    """Four cases, of which the second is the reference; the last one has a label of its own."""
    labels = ("t1/a", "t2/a", "t3/a", "t4/big")
    cases = [Case.parse(CASE.replace("t1/a", label)) for label in labels]
    arms = tuple(replace(job, case=case) for case in cases)
    return BlockRequest("4", arms, reference=1, seed="7/4", skip=14)


def executor(client, seconds=0.0, stop=None):
    return BoardExecutor(client, HOME, Files(), stop or threading.Event(), board_seconds=seconds)


def test_a_job_names_content_not_paths(job):
    client = FakeClient(done)
    outcome = executor(client).launch(job, 3, 9.0)
    assert (outcome.status, outcome.answer) == (Status.OK, {"load_ns": 5})
    assert 0 <= outcome.seconds < 2.0  # no launch takes longer than its controller waited
    assert outcome.flags == ["throttled"]
    # The controller notes board and launch; a board cannot overwrite them.
    assert outcome.notes == {"memory_bound": "cgroup", "board": "a1", "launch": "s-0"}
    [(board, message, _)] = client.asked
    assert (board, message["threads"], message["timeout"]) == ("a1", 3, 9.0)
    assert message["jobs"][0]["artifact"]["suffix"] == "pt2"
    assert "m.pt2" not in json.dumps(message)


def test_what_a_board_lacks_is_sent_and_the_launch_asked_for_again(job):
    def lacks(message):
        missing = [message["jobs"][0]["reference"]["digest"]]
        return {"status": "missing", "launch": message["launch"], "missing": missing}

    client = FakeClient(lacks, done)
    assert executor(client).launch(job, 1, 9.0).status is Status.OK
    assert [message["kind"] for _, message, _ in client.asked] == ["launch", "put", "launch"]
    assert client.asked[1][2] == b"m.npz"
    ids = [message["launch"] for _, message, _ in client.asked if "launch" in message]
    assert len(set(ids)) == 2  # each asks for a launch of its own


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (LostRequestError("no answer within 9 s"), Status.LOST, "board a1: no answer within 9 s"),
        ({"status": "refused", "reason": "too old"}, Status.FAILED, "board a1: too old"),
        (
            {**done({"launch": "s-old"}), "launch": "s-old"},
            Status.FAILED,
            "board a1: it answered for launch s-old, not s-0",
        ),
    ],
)
def test_an_answer_without_an_outcome_gives_its_reason(job, answer, status, reason):
    outcome = executor(FakeClient(answer)).launch(job, 1, 9.0)
    assert (outcome.status, outcome.reason) == (status, reason)
    assert outcome.notes["board"] == "a1"


# Blocks


def ended(client, block, **options):
    """The arms in the order in which their outcomes came, and the outcomes."""
    outcomes = list(executor(client, **options).block(block, 9.0))
    return [number for number, _ in outcomes], [outcome for _, outcome in outcomes]


def sent(client):
    """Threads of the cases of each request, and which of them was the reference."""
    messages = [message for _, message, _ in client.asked if message["kind"] == "block"]
    return [
        ([Case.parse(job["case"]).threads for job in message["jobs"]], message["reference"])
        for message in messages
    ]


def test_a_block_is_one_request_with_an_outcome_for_each_arm(block):
    turns = {"block": "0.0", "counts": [1]}
    client = FakeClient(with_arms(3, 1, CHECK, 0, 2, answer={"turns": turns}))
    arms, outcomes = ended(client, block)
    assert arms == [3, 1, CHECK, 0, 2]
    assert sent(client) == [([1, 2, 3, 4], 1)]
    [(board, message, _)] = client.asked
    assert (board, message["seed"], message["skip"], message["timeout"]) == ("a1", "7/4", 14, 9.0)
    # Launches of one name are compared with each other: the controller names the block.
    assert (
        {outcome.answer["turns"]["block"] for outcome in outcomes} == {"4.0"} == {message["name"]}
    )
    assert [outcome.notes["launch"] for outcome in outcomes] == [
        "s-0.3", "s-0.1", "s-0.check", "s-0.0", "s-0.2",
    ]  # fmt: skip
    assert {outcome.notes["board"] for outcome in outcomes} == {"a1"}


def test_a_file_of_several_cases_is_sent_once(block):
    def lacks(message):
        missing = [job[name]["digest"] for job in message["jobs"] for name in ("artifact",)]
        return {"status": "missing", "launch": message["launch"], "missing": missing}

    client = FakeClient(lacks, with_arms(0, 1, 2, 3, CHECK))
    assert sorted(ended(client, block)[0]) == [CHECK, 0, 1, 2, 3]
    assert [message["kind"] for _, message, _ in client.asked] == ["block", "put", "block"]


def test_what_did_not_fit_is_asked_for_again_beside_the_reference(block):
    client = FakeClient(with_arms(0, 1, CHECK), with_arms(0, 2, CHECK), with_arms(0, 1, CHECK))
    arms, _ = ended(client, block)
    assert arms == [0, 1, CHECK, 2, 1, CHECK, 3, 1, CHECK]
    assert sent(client) == [([1, 2, 3, 4], 1), ([3, 4, 2], 2), ([4, 2], 1)]
    assert [message["name"] for _, message, _ in client.asked] == ["4.0", "4.1", "4.2"]


@pytest.mark.parametrize(
    ("answers", "alone"),
    [
        ([with_arms()], [1, 2, 3, 4]),
        ([with_arms(1)], [1, 3, 4]),  # no room for the reference's second arm
        ([with_arms(1, CHECK), with_arms(3, CHECK)], [1, 3, 4]),  # no room beside both
    ],
)
def test_what_finds_no_room_beside_the_reference_is_measured_alone(block, answers, alone):
    client = FakeClient(*answers, *[done] * len(alone))
    arms, _ = ended(client, block)
    assert set(arms) - {CHECK} == {0, 1, 2, 3}
    assert sent(client)[len(answers) :] == [([threads], None) for threads in alone]


def test_a_block_that_is_lost_costs_only_what_was_under_way(block):
    client = FakeClient(with_arms(0, 1, CHECK), LostRequestError("gone"))
    arms, outcomes = ended(client, block)
    assert arms == [0, 1, CHECK, 2, 3, 1]
    assert [outcome.status for outcome in outcomes] == [Status.OK] * 3 + [Status.LOST] * 3
    assert {outcome.reason for outcome in outcomes[3:]} == {"board a1: gone"}
    ids = [outcome.notes["launch"] for outcome in outcomes]
    assert len(set(ids)) == len(ids)


def test_a_lost_board_gives_each_case_to_a_board_of_its_label(block):
    """The case of another label is measured by no board, and the others keep their reference."""
    client = FakeClient(with_arms(0, 1, 2, CHECK), boards=(TWIN,))
    arms, outcomes = ended(client, block)
    assert arms == [0, 1, 2, CHECK, 3]
    assert [board for board, _, _ in client.asked] == ["a2"]
    assert sent(client) == [([1, 2, 3], 1)]
    assert (outcomes[-1].status, outcomes[-1].final) == (Status.LOST, True)


def test_a_case_whose_file_is_gone_costs_no_other_case(block, tmp_path):
    gone = replace(block.arms[2], artifact=tmp_path / "gone.pt2")
    block = replace(block, arms=(*block.arms[:2], gone, block.arms[3]))
    arms, outcomes = ended(FakeClient(with_arms(0, 1, 2, CHECK)), block)
    assert arms == [2, 0, 1, 3, CHECK]
    assert [outcome.status for outcome in outcomes] == [Status.FAILED] + [Status.OK] * 4
    assert "gone.pt2" in outcomes[0].reason


@pytest.mark.parametrize(
    ("arms", "reason"),
    [
        ((0, 0), "board a1: it answered for launches that it was not asked for"),
        ((0, 4), "board a1: it answered for launches that it was not asked for"),
        ((0, -2), "board a1: its answer is malformed: outcomes.1.arm: "),
        (range(20_000), "board a1: its answer is malformed: outcomes: "),
    ],
)
def test_outcomes_that_were_not_asked_for_cost_the_block(block, arms, reason):
    _, outcomes = ended(FakeClient(with_arms(*arms)), block)
    assert [outcome.status for outcome in outcomes] == [Status.FAILED] * 4
    assert all(outcome.reason.startswith(reason) for outcome in outcomes)


def test_without_a_reference_no_arm_is_its_second(block):
    _, outcomes = ended(FakeClient(with_arms(0, 1, 2, 3, CHECK)), replace(block, reference=None))
    assert [outcome.status for outcome in outcomes] == [Status.FAILED] * 4


def test_a_launch_that_took_no_turns_brings_none(job):
    """Else a board could put a single launch into a block, and a ratio with it."""
    client = FakeClient(with_arms(0, answer={"load_ns": 5, "turns": {"block": "0.0"}}))
    assert executor(client).launch(job, 1, 9.0).answer == {"load_ns": 5}


def test_a_run_that_ends_asks_for_no_further_block(block):
    stop = threading.Event()

    def ends(message):
        stop.set()
        return done(message)

    client = FakeClient(ends)
    with pytest.raises(Stopped):
        list(executor(client, stop=stop).block(block, 9.0))
    assert len(client.asked) == 1


# Lost and late


def test_a_late_answer_is_reported_and_not_counted(job):
    client = FakeClient(lambda message: done(message, late=["s-77"]))
    executor(client).launch(job, 1, 9.0)
    assert client.late == ["s-77"]


def test_an_answer_after_the_launch_was_given_up_is_only_counted_as_late():
    class Future:
        status = "finished"

    client = FleetClient.__new__(FleetClient)
    client.late, client._given_up = [], {"s-1"}
    pending = PendingRequest("s-1", HOME, Future())
    client._on_done(pending)
    assert pending.changed.is_set()
    assert client.late == []
    pending.done = True
    client._on_done(pending)
    assert client.late == ["s-1"]
    client.note_late(["s-1", "s-2"])  # counted already, and never asked for
    assert client.late == ["s-1"]


def test_an_equal_board_replaces_a_lost_one(job):
    client = FakeClient(done, done, boards=(TWIN,))
    assert executor(client).launch(job, 1, 9.0).status is Status.OK
    assert client.asked[0][0] == "a2"


@pytest.mark.parametrize(
    "other",
    [
        replace(TWIN, labels=("b",)),  # another label
        replace(TWIN, environment={**MACHINE, "cpu": "B"}),  # another machine
        replace(TWIN, environment={**MACHINE, "gpu": "NVIDIA GeForce RTX 4090"}),  # another card
        replace(TWIN, backends={"fake": "no driver"}),  # it cannot
    ],
)
def test_no_other_board_replaces_it(job, other):
    outcome = executor(FakeClient(boards=(other,))).launch(job, 1, 9.0)
    assert outcome.status is Status.LOST
    assert outcome.final
    assert "board a1 is lost" in outcome.reason


def test_a_case_of_one_board_by_its_name_never_moves(job):
    job = replace(job, case=Case.parse(CASE.replace("/a", "/a1")))
    outcome = executor(FakeClient(boards=(TWIN,))).launch(job, 1, 9.0)
    assert outcome.final


def test_a_second_agent_does_not_take_the_name_of_a_board_that_is_there(job):
    """A rogue agent calls itself as the home board does; launches stay with the known agent."""
    known, rogue = replace(HOME, session="1"), replace(HOME, session="2", address="tcp://rogue")
    client = FakeClient(done, done, boards=(rogue, known))
    fleet = BoardExecutor(client, known, Files(), threading.Event(), board_seconds=0.0)
    assert fleet._find(job.case) == known
    client.present = [rogue]  # as when the agent of the board was started again
    assert fleet._find(job.case) == rogue
    client.present = [replace(rogue, session="3"), replace(rogue, session="4")]
    assert fleet.launch(job, 1, 9.0).status is Status.LOST  # which one is the board?


def test_the_start_of_a_launch_counts_once_and_from_its_own_board():
    client = FleetClient.__new__(FleetClient)
    pending = PendingRequest("s-1", HOME)
    client._pending = {"s-1": pending}
    for message in (
        None,
        "s-1",
        ["launch"],
        {"launch": ["s-1"], "worker": HOME.address},
        {"launch": "s-1"},
        {"launch": "s-1", "worker": "tcp://rogue"},
    ):
        client._on_launch((0.0, message))
    assert pending.began is None
    client._on_launch((0.0, {"launch": "s-1", "worker": HOME.address}))
    first = pending.began
    client._on_launch((0.0, {"launch": "s-1", "worker": HOME.address}))
    assert first is not None
    assert pending.began == first  # a second event does not prolong the launch


def test_what_a_board_waits_for_is_passed_on_within_bounds():
    """A rogue board may send anything: it is made inert, cut, and cannot go on for ever."""
    client = FleetClient.__new__(FleetClient)
    pending = PendingRequest("s-1", HOME)
    client._pending = {"s-1": pending}
    event = {"launch": "s-1", "worker": HOME.address}
    client._on_launch((0.0, {**event, "waits": "\x1b[2Jcooling" + "x" * 10**6}))
    client._on_launch((0.0, {**event, "waits": {"a": 1}, "worker": "tcp://rogue"}))
    [sentence] = pending.sentences
    assert "\x1b" not in sentence
    assert len(sentence) < 500
    assert pending.began is None  # it waits
    for _ in range(1000):
        client._on_launch((0.0, {**event, "waits": ["again"]}))
    assert len(pending.sentences) == MAX_SENTENCES


def test_the_home_board_is_waited_for(job, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    client = FakeClient(done)
    client.present = OSError("the scheduler is away")
    threading.Timer(0.1, lambda: setattr(client, "present", [HOME])).start()
    assert executor(client, seconds=30).launch(job, 1, 9.0).status is Status.OK


def test_a_run_that_ends_launches_no_more(job):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        executor(FakeClient(done), stop=stop).launch(job, 1, 9.0)


def test_a_launch_is_bounded_by_its_phases(job):
    # 6 phases of 10 s, 2 s of warm-up and 6 s of sampling on top of theirs, 120 s to cool down,
    # and 60 s for the rest.
    assert single(job, 1).seconds(10.0) == 60 + 8 + 120 + 60


def test_a_block_is_bounded_by_its_arms(block):
    # 4 cases and the reference's second arm; the board cools down once.
    assert in_turns(block).seconds(10.0) == 5 * (60 + 8 + 60) + 120


def worker(announcement, **facts):
    return {"cspbench": announcement, "nthreads": 1, "resources": {"cspbench:cpu": 1.0}, **facts}


def test_workers_that_cannot_be_boards_are_refused_with_a_sentence():
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
    assert "is malformed" in refused[2]


def test_the_dead_worker_of_a_rebooted_board_is_no_second_board():
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

    client = FleetClient.__new__(FleetClient)
    client._listing, client._connected = threading.Lock(), gone
    client._boards = (time.monotonic(), [HOME])
    with pytest.raises(OSError, match="was lost"):
        client.boards()
