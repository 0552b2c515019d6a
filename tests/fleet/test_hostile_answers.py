"""Boards that answer anything: every place of an answer with every kind of bad value.

An honest board's answer is changed in one place. The launch then ends with a status and a reason,
or the board is refused. No value of a board stops the controller or makes a run unreadable.
"""

import copy
import itertools
import json
import threading
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.fleet.agent import RESOURCE
from cspbench.fleet.answers import BadAnswerError, read_answer
from cspbench.fleet.artifacts import Item
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.controller import BoardCeilings, new_fleet_run
from cspbench.fleet.devices import BoardInfo, plan_fleet
from cspbench.fleet.executor import BoardExecutor
from cspbench.fleet.protocol import PROTOCOL
from cspbench.fleet.workers import read_workers
from cspbench.jobs.ceilings import CeilingsRequest
from cspbench.jobs.spec import JOBS
from cspbench.machine.facts import fingerprint
from cspbench.runner.plan import plan_suite
from cspbench.runner.progress import Silent
from cspbench.runner.run import new_run
from cspbench.runner.session import Session
from cspbench.store.rundir import read_run
from cspbench.suite.suite import LABEL, Measure, Suite
from cspbench.views.frames import load
from cspbench.views.tables import case_table
from tests.launches import MS, TIMED

GONE = object()
NAN, INF = float("nan"), float("inf")
#: Fewer than Python parses, more than it compares, copies or prints without an error.
DEEP: object = []
for _ in range(300):
    DEEP = [DEEP]
BAD = (
    GONE, None, True, NAN, INF, -INF, -1, -0.5, 0, 10**400, 1e308, 10**18, "", "../../evil",
    "\x1b[2J\x1b]0;owned\x07", "\ud800", "lost", "interrupted", "no such status", "x" * 100_000,
    [], {}, [NAN], [None], {"a": [{}]}, {"\x1b[2J": "\x1b[2J"}, {"case": "peleenet@64"}, DEEP,
)  # fmt: skip
REPORTED = {
    "arm": 0,
    "status": "ok",
    "reason": "",
    "answer": {
        **TIMED, "latencies_ns": [10 * MS] * 3, "sample_seconds": 0.1, "scope": "inference",
        "interference": {"seconds": 0.5, "foreign_cpu_s": 0.0, "steal_s": 0.0,
                         "load_1m_before": 0.5, "load_1m_after": 0.5},
        "drift": {"relative": 0.0, "z": 0.1, "slow": False}, "device": {"inference": 9.5e6},
    },
    "log": "",
    "seconds": 0.001,
    "flags": ["throttled"],
    "notes": {
        "memory_bound": "cgroup",
        "sensors": {"thermal": {"readings": 2, "window_s": 0.1, "cost_share": 0.01,
                                "gauges": {"cpu_c": {"mean": 50.0, "min": 49.0, "max": 51.0,
                                                     "count": 2}},
                                "counters": {"uj": 5}}},
        "energy": {"energy_per_inference_j": 0.1, "power_w": 5.0, "idle_power_w": 1.0,
                   "energy_method": "rapl", "period_s": 0.001, "window_s": 0.1},
        "board_state": {"before": {"temperature_c": 50.0, "load_1m": 0.5, "governor": "x",
                                   "nvpmodel": None, "jetson_clocks": None},
                        "after": {"temperature_c": 51.0}, "cooled_seconds": 0.0},
    },
}  # fmt: skip
DONE = {"status": "done", "launch": "s-0", "late": ["s-9"], "outcomes": [REPORTED]}


def places(value, path=()):
    """Every place below a value; of lists the first item."""
    yield path
    inner = {dict: dict.items, list: lambda items: enumerate(items[:1])}
    for key, below in inner.get(type(value), lambda _: ())(value):
        yield from places(below, (*path, key))


def changed(value, path, new):
    """A copy with another value in one place, or without that place."""
    value = copy.copy(value)
    if len(path) > 1:
        value[path[0]] = changed(value[path[0]], path[1:], new)
    elif new is GONE:
        del value[path[0]]
    else:
        value[path[0]] = new
    return value


def text_of(message):
    """JSON as a rogue may send it: with NaN and infinity."""
    return json.dumps({"protocol": PROTOCOL, "kind": "answer", **message})


CHANGES = [
    (path, new) for path in places(DONE) if path for new in BAD
]  # a launch's answer in each place with each value
RAW = [
    None, 5, b"{}", "", "{", "[]", "null", "1e999", "[" * 100_000, f'{{"protocol": {PROTOCOL}}}',
    f'{{"protocol": {PROTOCOL}, "kind": "answer"}}',
    text_of({"status": "ok"}), text_of({"status": ["done"]}),
    text_of({"status": "missing", "missing": 7}), text_of({"status": "missing", "missing": ["x"]}),
    text_of({"status": "refused", "reason": ["no"]}), text_of({"status": "refused"}),
    json.dumps({"protocol": True, "kind": "answer", **DONE}), '{"protocol": 1e999, "kind": "x"}',
    text_of(DONE).replace("x", "\N{SNOWMAN}"), text_of(DONE) + " " * 2**26,
]  # fmt: skip
EMPTY = Item("0" * 64, 0, "onnx", "0" * 64)


class RogueClient:
    """The client of a fleet with one board, which answers each case with a text of its own."""

    def __init__(self, board, answers):
        self._board, self._answers = board, answers
        self._numbers = itertools.count()
        self.counted_late = []

    def boards(self):
        return [self._board]

    def new_launch(self):
        return f"s-{next(self._numbers)}"

    def note_late(self, launches):
        self.counted_late += launches

    def ask(self, board, request, *, data=b"", launch="", seconds, queue_seconds, waits=None):
        message = json.loads(request)
        if message["kind"] == "put":
            return read_answer(text_of({"status": "ok"}), board.name)
        case = Case.parse(message["jobs"][0].get("case", "yolov3-tiny-prn@96/fake/b1/t1"))
        text = self._answers[dict(case.backend.options).get("ms", 1)]
        return read_answer(text(message["launch"]) if callable(text) else text, board.name)


class NoFiles:
    """Stands for the artifacts of the cases, which no board here reads."""

    def pair(self, artifact, reference):
        return EMPTY, EMPTY


def answering(change):
    """The text of an answer to any launch, changed in one place."""
    path, new = change

    def text(launch):
        return text_of(changed({**DONE, "launch": launch}, path, new))

    return text


@pytest.fixture(scope="module")
def home():
    return BoardInfo("a1", "tcp://a1", ("a",), backends={"fake": None})


def measured(home, answers, folder):
    """A run of as many cases as there are answers, and an honest one; each case has one round."""
    honest = answering((("late",), []))
    texts = [honest, *answers]
    cases = tuple(
        Case.parse(f"yolov3-tiny-prn@96/fake{f'[ms={n}]' if n > 1 else ''}/b1/t1")
        for n in range(1, len(texts) + 1)
    )
    measure = Measure(rounds=1, together=1, warmup_seconds=0, max_seconds=0, memory=False)
    plan = plan_suite(Suite("rogue", cases, measure))
    directory = new_run(plan, folder)
    client = RogueClient(home, dict(enumerate(texts, start=1)))
    executor = BoardExecutor(client, home, NoFiles(), threading.Event(), board_seconds=0)
    session = Session(plan, directory, executor, Silent())
    session.measure(plan.runnable)
    return directory.path


@pytest.mark.slow
def test_a_bad_answer_costs_its_launch_and_the_run_is_read(home, tmp_path):
    tried = [*CHANGES[::3], *RAW]  # two thousand cases would take minutes
    answers = [*map(answering, CHANGES[::3]), *RAW]
    path = measured(home, answers, tmp_path)
    run = load(path)
    assert run.stored.problems == []
    assert len(run.records) == len(answers) + 1
    honest, *others = run.records
    assert (honest.status, honest.latency_ms.estimate) == (Status.OK, 10.0)
    for record, change in zip(others, tried, strict=True):
        what = repr(change)[:200]
        assert record.launches, what
        for launch in record.launches:
            assert launch.status in set(Status) - {Status.LOST, Status.INTERRUPTED}, what
            assert (launch.board, launch.job) == ("a1", "time"), what
            assert 0 <= launch.seconds < 100, what
            if launch.status is Status.FAILED and change not in CHANGES:
                assert launch.reason.startswith("board a1: "), what
        if record.status is not Status.OK:
            assert record.reason or change[0] == ("outcomes", 0, "status"), what
            assert len(record.reason) <= 2100, what
    kept = [record for record in others if record.status is Status.OK]
    assert len(case_table(run)) == len(run.records)
    assert 0 < len(kept) < len(others) / 2  # most changes are refused; some do not matter


def read(text):
    """The answer, or the sentence that refuses it."""
    try:
        return read_answer(text, "a1"), ""
    except BadAnswerError as error:
        return None, str(error)


CEILINGS = {"ceilings": {
    "gflops": {"fp32": 50.0}, "bandwidth_gbs": {"triad": 10.0}, "overhead_us": 5.0,
    "cache_bandwidth_gbs": {"L1": 100.0}, "working_set_bytes": 2**26, "threads": 1, "name": "x",
}}  # fmt: skip


@pytest.mark.parametrize("path", [path for path in places(CEILINGS) if path], ids=repr)
def test_bad_ceilings_are_none_or_the_run_is_read(home, path, tmp_path):
    plan = plan_fleet(Suite("c", (Case.parse("yolov3-tiny-prn@96/fake/b1/t1"),), Measure()), [home])
    assert JOBS.get("ceilings").read(CEILINGS)
    for number, new in enumerate(BAD):
        reported = {**REPORTED, "answer": changed(CEILINGS, path, new), "notes": {}}
        answers = {1: answering((("outcomes",), [reported]))}
        executor = BoardExecutor(
            RogueClient(home, answers), home, NoFiles(), threading.Event(), board_seconds=0
        )
        found = executor.launch(CeilingsRequest("cpu", 1), 1, 9.0).checked("ceilings")
        if found is None:
            continue
        directory = new_fleet_run(plan, tmp_path / str(number))
        BoardCeilings(directory, "a1").note("cpu", 1, found.ceilings, measured=True)
        stored = read_run(directory.path).meta
        assert stored["ceilings"] == {"cpu/t1": asdict(found.ceilings)}


@pytest.mark.parametrize("text", RAW)
def test_what_is_no_answer_is_refused_in_a_sentence(text):
    answer, sentence = read(text)
    assert answer is None or answer.status in ("ok", "missing", "refused")
    assert answer or 0 < len(sentence) < 500
    assert sentence.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300)
@given(path=st.sampled_from([path for path, _ in CHANGES]), new=JSON)
def test_any_value_is_an_answer_or_is_refused(path, new):
    answer, sentence = read(text_of(changed(DONE, path, new)))
    assert sentence.isprintable()
    for reported in answer.outcomes if answer else ():
        assert 0 <= reported.seconds <= 10**18
        json.dumps([reported.answer, reported.notes], allow_nan=False)


# What a board says of itself ----------------------------------------------------------------------

ANNOUNCED = json.loads(Board(Settings("a1", ("a", "b"))).announce())
WORKER = {"resources": {f"{RESOURCE}cpu": 1.0}, "nthreads": 1, "last_seen": 1000.0, "name": "w"}


def fleet_with(announced=ANNOUNCED, **facts):
    """The boards and refusals of a scheduler with an honest worker and this one."""
    honest = {**WORKER, "cspbench": Board(Settings("b1")).announce()}
    text = json.dumps(announced) if isinstance(announced, dict) else announced
    return read_workers({"tcp://h:1": honest, "tcp://r:1": {**WORKER, "cspbench": text, **facts}})


def is_board(boards, refused):
    """Whether the rogue became a board; without it one sentence says why."""
    assert "b1" in [board.name for board in boards]
    rogue = [board for board in boards if board.address == "tcp://r:1"]
    assert len(rogue) + len(refused) == 1
    for sentence in refused:
        assert "tcp://r:1" in sentence or "board a1" in sentence
        assert sentence.isprintable()
        assert len(sentence) < 500
    return bool(rogue)


def assert_usable(boards, folder):
    """The boards can be planned for, and the run of them is read."""
    for board in boards:
        assert all(map(LABEL.fullmatch, board.names))
    cases = (Case.parse("yolov3-tiny-prn@96/fake/b1/t1"),)
    plan = plan_fleet(Suite("tiny", cases, Measure(), devices=("each",)), boards)
    run = read_run(new_fleet_run(plan, folder).path)
    assert set(run.meta["fleet"]["boards"]) == set(plan.placements.values())


def test_an_honest_announcement_is_a_board(tmp_path):
    boards, refused = fleet_with()
    assert is_board(boards, refused)
    assert dict(boards[0].environment) == fingerprint([]) | dict(boards[0].environment)
    assert_usable(boards, tmp_path)


@pytest.mark.parametrize("path", [path for path in places(ANNOUNCED) if path], ids=repr)
def test_a_bad_announcement_costs_its_board(path, tmp_path):
    """A sentence refuses it, or the value is one that any board may announce."""
    for new in BAD:
        boards, refused = fleet_with(changed(ANNOUNCED, path, new))
        if is_board(boards, refused):
            assert path[0] not in ("name", "session") or isinstance(new, str) or new is GONE
            assert_usable(boards, tmp_path)


@pytest.mark.parametrize(
    "name", ["../../evil", "each", "", ".", "a/b", "A", "x" * 64, "a\x1b[2J", "a\n", "-a", 7, None]
)
@pytest.mark.parametrize("place", ["name", "labels"])
def test_a_name_that_is_no_label_is_refused(name, place):
    announced = {**ANNOUNCED, place: name if place == "name" else [name]}
    assert not is_board(*fleet_with(announced))


def test_the_name_of_another_board_stops_the_run_before_it_begins():
    boards, refused = fleet_with({**ANNOUNCED, "name": "b1"})
    assert refused == []
    suite = Suite("t", (Case.parse("yolov3-tiny-prn@96/fake/b1/t1"),), Measure(), devices=("each",))
    with pytest.raises(InputError, match=r"2 boards are named 'b1' \(tcp://h:1, tcp://r:1\)"):
        plan_fleet(suite, boards)


@pytest.mark.parametrize("text", [*RAW, b"x", json.dumps({**ANNOUNCED, "x": "y" * 2**16})])
def test_what_is_no_announcement_is_refused(text):
    assert not is_board(*fleet_with(text))


@pytest.mark.parametrize("fact", ["resources", "nthreads", "last_seen"])
def test_what_a_worker_makes_the_scheduler_say_of_it_is_checked(fact):
    """Dask lets a worker replace what the scheduler reports of it."""
    values = [new for new in BAD if new is not GONE]
    values += [{f"{RESOURCE}cpu": new} for new in values] if fact == "resources" else []
    for new in values:
        boards, refused = fleet_with(**{fact: new})
        if is_board(boards, refused):
            [rogue] = [board for board in boards if board.address == "tcp://r:1"]
            assert set(rogue.resources.values()) <= {1}


@pytest.mark.parametrize("address", ["tcp://\x1b[2J:1", "tcp://\u202e:1", "tcp://" + "x" * 10_000])
def test_an_address_that_is_none_is_refused(address):
    worker = {**WORKER, "cspbench": json.dumps(ANNOUNCED)}
    boards, [sentence] = read_workers({address: worker})
    assert boards == []
    assert sentence.isprintable()
    assert len(sentence) < 500


def test_unknown_facts_of_a_board_are_left_out(tmp_path):
    environment = {**ANNOUNCED["environment"], "evil": "x" * 1000}
    boards, _ = fleet_with({**ANNOUNCED, "environment": environment})
    assert all("evil" not in board.environment for board in boards)
