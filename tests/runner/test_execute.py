"""Running a plan with an executor that invents what launches find: order, records, failures."""

import datetime
import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from cspbench.core.cache import cache_folder
from cspbench.core.case import Case, Ref
from cspbench.core.registry import Registry
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.runner import ended
from cspbench.runner import plan as plan_module
from cspbench.runner import session as session_module
from cspbench.runner.blocks import shuffled
from cspbench.runner.plan import plan_suite
from cspbench.runner.process import Outcome
from cspbench.runner.progress import Silent
from cspbench.runner.run import execute, new_run, resumable
from cspbench.runner.session import Session
from cspbench.store.migrate import FORMAT
from cspbench.store.records import MAX_LOST
from cspbench.store.rundir import RunDirectory, read_run
from cspbench.suite.suite import Measure, Suite
from cspbench.views.frames import load
from tests.launches import MS, TIMED

MEASURE = Measure(
    device_times=False,
    rounds=3, together=1, warmup_seconds=0.5, target_ci=0.05, max_seconds=0.25,
    timeout_seconds=42.0, memory=False, seed=7,
)  # fmt: skip


@dataclass(frozen=True)
class Invented:
    """A backend of which only the spec exists: the executor of these tests runs nothing."""

    name: str
    artifact: str = "onnx"
    device: str = "cpu"
    missing: str | None = None
    summary: str = "invented"
    axes: tuple = ()

    def available(self):
        return self.missing


@pytest.fixture(autouse=True)
def _machine(tmp_path, monkeypatch):
    """A machine with the backends cpu and gpu, without the backend board; an empty cache."""
    backends = Registry("backend", (), "cspbench.tests.none")
    backends.add(Invented("cpu"))
    backends.add(Invented("gpu", artifact="pt2", device="cuda"))
    backends.add(Invented("board", missing="not a board"))
    monkeypatch.setattr(plan_module, "BACKENDS", backends)
    monkeypatch.setattr(session_module, "BACKENDS", backends)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))


def suite(*cases, measure=MEASURE):
    """Make a suite of ``model/backend`` texts."""
    made = []
    for text in cases:
        model, backend = text.split("/")
        made.append(Case(Ref(model), (64, 64), Ref(backend), threads=2))
    return Suite("tiny", tuple(made), measure)


def id_of(text):
    model, backend = text.split("/")
    return f"{model}@64/{backend}/b1/t2"


def good(latency_ms=10.0, *, flags=(), **answer):
    """Make the outcome of a launch whose inferences all took ``latency_ms``."""
    found = {**TIMED, "latencies_ns": [int(latency_ms * MS)] * 50, **answer}
    return Outcome(Status.OK, answer=found, seconds=1.5, flags=list(flags))


def prepared(**answer):
    """Make the outcome of a preparation; the model has 2 M parameters and 0.3 G MACs."""
    totals = {"params": 2_000_000, "macs": 300_000_000, "bflops": 0.61}
    return Outcome(Status.OK, answer={"analysis": {"totals": totals}, **answer})


def bad(status="failed", reason="it broke", log=""):
    return Outcome(Status(status), reason, log=log, seconds=0.5)


def one_at_a_time(executor, request, timeout_seconds):
    """The arms of a block one after the other, each by ``launch``."""
    for number, arm in enumerate(request.arms):
        yield number, executor.launch(arm, arm.case.threads, timeout_seconds)


class FakeExecutor:
    """Answers jobs from a script and notes them.

    Args:
        launches: case text -> outcomes (or an exception to raise) in order; good ones after that.
        prepares: model id -> outcome of its preparation; good by default.
        directory: if given, every launch before must be on disk when the next one starts.
    """

    def __init__(self, launches=None, prepares=None, directory=None):
        self._launches = {id_of(text): list(found) for text, found in (launches or {}).items()}
        self._prepares = prepares or {}
        self._directory = directory
        self.jobs = []
        self.prepared = []

    @property
    def order(self):
        return [request.case.id for request, _, _ in self.jobs]

    def launch(self, request, threads, timeout_seconds):
        if self._directory is not None:
            assert len(read_run(self._directory.path).launches) == len(self.jobs)
        self.jobs.append((request, threads, timeout_seconds))
        script = self._launches.get(request.case.id)
        found = script.pop(0) if script else good()
        if isinstance(found, BaseException):
            raise found
        return found

    def block(self, request, timeout_seconds):
        return one_at_a_time(self, request, timeout_seconds)

    def series(self, requests, timeout_seconds):
        for request in requests:
            self.prepared.append(request)
            outcome = self._prepares.get(request.model, prepared())
            if outcome.status is Status.OK:
                for item in request.artifacts:
                    self._write(item)
            yield outcome

    @staticmethod
    def _write(item):
        path = cache_folder() / "artifacts" / f"{item['key']}.{item['kind']}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_suffix(".npz").touch()
        path.with_suffix(".sha256").write_text(" ".join(2 * [hashlib.sha256(b"").hexdigest()]))


class SlowExecutor(FakeExecutor):
    """Every launch takes ten seconds of ``now``."""

    now = 0.0

    def launch(self, request, threads, timeout_seconds):
        self.now += 10.0
        return super().launch(request, threads, timeout_seconds)


def run(tmp_path, suite, executor, progress=None):
    """Plan, run and load."""
    plan = plan_suite(suite)
    directory = new_run(plan, tmp_path / "results")
    execute(plan, directory, executor=executor, progress=progress)
    return load(directory.path)


# Preparation ------------------------------------------------------------------------------------


def test_each_model_is_prepared_once_for_all_its_backends(tmp_path):
    executor = FakeExecutor()
    run(tmp_path, suite("a/cpu", "a/gpu", "b/cpu", "a/board"), executor)
    kinds = {one.model: [item["kind"] for item in one.artifacts] for one in executor.prepared}
    assert kinds == {"a@64": ["onnx", "pt2"], "b@64": ["onnx"]}
    assert len(executor.prepared) == 2
    assert {one.seed for one in executor.prepared} == {7}


def test_a_second_run_exports_nothing(tmp_path):
    cases = suite("a/cpu", "a/gpu")
    run(tmp_path, cases, FakeExecutor())
    again = FakeExecutor()
    run(tmp_path, cases, again)
    assert all(one.artifacts == [] for one in again.prepared)
    assert Counter(again.order) == {id_of("a/cpu"): 3, id_of("a/gpu"): 3}


def test_a_model_that_cannot_be_built_costs_its_own_cases_only(tmp_path):
    executor = FakeExecutor(prepares={"a@64": bad("failed", "no such layer", log="Traceback ...")})
    done = run(tmp_path, suite("a/cpu", "a/gpu", "b/cpu"), executor)
    assert Counter(executor.order) == {id_of("b/cpu"): 3}
    assert list(done.cases["status"]) == ["failed", "failed", "ok"]
    assert list(done.cases["reason"]) == ["no such layer", "no such layer", ""]
    prepare = done.stored.launches[0]
    assert (prepare.job, prepare.log) == ("prepare", "Traceback ...")


def test_what_one_exporter_cannot_express_is_unsupported_for_its_backends(tmp_path):
    cases = suite("a/cpu", "a/gpu")
    onnx = plan_suite(cases).cases[0].artifact.key
    refusal = prepared(unsupported={onnx: "ONNX cannot express it"})
    executor = FakeExecutor(prepares={"a@64": refusal})
    done = run(tmp_path, cases, executor)
    assert Counter(executor.order) == {id_of("a/gpu"): 3}
    assert list(done.cases["status"]) == ["unsupported", "ok"]
    assert done.cases["reason"][0] == "ONNX cannot express it"


def test_a_model_is_analysed_once_also_where_no_case_of_it_can_run(tmp_path):
    executor = FakeExecutor()
    done = run(tmp_path, suite("a/cpu", "b/board"), executor)
    assert [one.model for one in executor.prepared] == ["a@64", "b@64"]
    assert list(done.cases["params_m"]) == [2.0, 2.0]
    assert list(done.cases["macs_g"]) == [0.3, 0.3]
    assert list(done.cases["bflops"]) == [0.61, 0.61]


def test_a_model_that_cannot_be_analysed_is_measured_all_the_same(tmp_path):
    executor = FakeExecutor(prepares={"a@64": Outcome(Status.OK, answer={"analysis_problem": "x"})})
    done = run(tmp_path, suite("a/cpu"), executor)
    assert list(done.cases["status"]) == ["ok"]
    assert done.cases["params_m"].isna().all()


# Launches ---------------------------------------------------------------------------------------


def test_launches_follow_the_rounds_of_the_recorded_seed(tmp_path):
    texts = ("a/cpu", "b/cpu", "c/cpu", "d/gpu")
    executor = FakeExecutor()
    done = run(tmp_path, suite(*texts), executor)
    expected = [case for n in range(3) for case in shuffled(map(id_of, texts), 7, n)]
    assert executor.order == expected
    assert list(done.launches["case"]) == expected
    assert done.stored.meta["suite"]["measure"]["seed"] == 7


def test_a_launch_is_told_all_it_needs(tmp_path):
    executor = FakeExecutor()
    run(tmp_path, suite("a/gpu", measure=MEASURE), executor)
    request, threads, timeout_seconds = executor.jobs[0]
    artifact = plan_suite(suite("a/gpu")).cases[0].artifact
    assert request.to_json() == {
        "job": "time", "case": "a@64/gpu/b1/t2", "device": "cuda", "artifact": str(artifact.path),
        "reference": str(artifact.reference), "seed": 7, "warmup_seconds": 0.5, "target_ci": 0.05,
        "max_seconds": 0.25, "min_seconds": 0.5, "sensors": "auto", "layers": False,
        "model_bytes": 0,
    }  # fmt: skip
    assert (threads, timeout_seconds) == (2, 42.0)


def test_a_worker_writes_nothing_of_the_envelope(tmp_path):
    """Whatever else a worker or a board answers: which launch it was is the runner's to say."""
    forged = good(case="b@64/cpu/b1/t2", number=7, session="mine", status="ok", job="memory",
                  board="b9", energy={"power_w": 1})  # fmt: skip
    forged.answer["flags"] = ["throttled"]
    forged.notes = {"number": 9, "case": "b@64/cpu/b1/t2", "memory_bound": "cgroup"}
    done = run(tmp_path, suite("a/cpu"), FakeExecutor({"a/cpu": [forged] * 3}))
    launches = done.stored.launches
    assert [(one.case, one.job, one.number) for one in launches] == [
        (id_of("a/cpu"), "time", number) for number in range(3)
    ]
    assert {(one.board, one.energy, one.memory_bound) for one in launches} == {
        (None, None, "cgroup")
    }
    assert len({one.session for one in launches}) == 1
    assert "mine" not in {one.session for one in launches}


def test_an_answer_that_is_malformed_is_a_failed_launch_with_its_reason(tmp_path):
    wrong = good(latencies_ns=["fast"])
    done = run(tmp_path, suite("a/cpu"), FakeExecutor({"a/cpu": [wrong] * 2}))
    assert list(done.cases["status"]) == ["failed"]
    assert done.cases["reason"][0].startswith("the worker's answer is malformed: latencies_ns: ")


def test_every_launch_is_on_disk_before_the_next_starts(tmp_path):
    plan = plan_suite(suite("a/cpu", "b/cpu"))
    directory = new_run(plan, tmp_path)
    executor = FakeExecutor({"a/cpu": [good(), bad(), good(), good()]}, directory=directory)
    execute(plan, directory, executor=executor)
    assert len(read_run(directory.path).launches) == 7


def test_a_run_of_invented_times_gives_their_medians(tmp_path):
    script = {"a/cpu": [good(8.0), good(10.0), good(12.5)]}
    done = run(tmp_path, suite("a/cpu"), FakeExecutor(script))
    row = done.cases.iloc[0]
    assert row["latency_ms"] == 10.0
    # See tests/measure/test_statistics.py for the arithmetic.
    assert row["latency_ms_low"] == pytest.approx(5.7447, abs=1e-4)
    assert row["latency_ms_high"] == pytest.approx(17.4076, abs=1e-4)
    assert row["fps"] == 100.0  # 1000 ms * 1 image / 10 ms
    # 150 samples: 50 of each; the 90th percentile is the largest, a 99th needs 300 samples.
    assert row["p90_ms"] == 12.5
    assert row["p99_ms"] is None or row["p99_ms"] != row["p99_ms"]
    assert (row["launches"], row["samples"]) == (3, 150)
    assert len(done.samples) == 150


def test_launches_of_a_case_are_numbered_in_one_session(tmp_path):
    done = run(tmp_path, suite("a/cpu", "b/cpu"), FakeExecutor({"a/cpu": [bad()]}))
    mine = done.launches[done.launches["case"] == id_of("a/cpu")]
    assert list(mine["number"]) == [0, 1, 2, 3]
    assert list(mine["status"]) == ["failed", "ok", "ok", "ok"]
    assert done.launches["session"].nunique() == 1


@pytest.mark.parametrize("status", ["failed", "timeout", "oom", "crashed"])
def test_a_case_that_ends_badly_twice_has_that_status(tmp_path, status):
    executor = FakeExecutor({"a/cpu": [bad(status, "why")] * 9})
    done = run(tmp_path, suite("a/cpu", "b/cpu"), executor)
    assert Counter(executor.order) == {id_of("a/cpu"): 2, id_of("b/cpu"): 3}
    assert list(done.cases["status"]) == [status, "ok"]
    assert done.cases["reason"][0] == "why"
    assert done.cases["latency_ms"].isna()[0]


def test_launches_lost_with_their_machine_are_repeated_within_bounds(tmp_path):
    executor = FakeExecutor(
        {"a/cpu": [bad("lost", "gone")] * 4, "b/cpu": [bad("lost", "gone")] * 9}
    )
    done = run(tmp_path, suite("a/cpu", "b/cpu"), executor)
    assert Counter(executor.order) == {id_of("a/cpu"): 4 + 3, id_of("b/cpu"): MAX_LOST}
    assert list(done.cases["status"]) == ["ok", "lost"]


def test_a_case_whose_machine_is_lost_for_good_is_told_as_lost(tmp_path):
    """Asking once more would be in vain: two good launches of three, and no third."""
    gone = bad("lost", "board b1 is lost, and no other board may take its cases")
    gone.final = True
    executor = FakeExecutor({"a/cpu": [good(), good(), gone]})
    done = run(tmp_path, suite("a/cpu"), executor)
    assert len(executor.order) == 3
    assert list(done.cases["status"]) == ["lost"]
    assert "no other board may take its cases" in done.cases["reason"][0]


def test_one_bad_end_is_made_up_for_and_told(tmp_path):
    done = run(
        tmp_path, suite("a/cpu"), FakeExecutor({"a/cpu": [good(), bad("crashed", "SIGSEGV")]})
    )
    assert list(done.cases["status"]) == ["ok"]
    assert done.cases["reason"][0] == "a launch was repeated: SIGSEGV"
    assert done.cases["launches"][0] == 3


@pytest.mark.parametrize("status", ["unsupported", "unavailable"])
def test_an_answer_is_not_asked_for_twice(tmp_path, status):
    executor = FakeExecutor({"a/cpu": [bad(status, "no such operator")]})
    done = run(tmp_path, suite("a/cpu"), executor)
    assert len(executor.order) == 1
    assert (done.cases["status"][0], done.cases["reason"][0]) == (status, "no such operator")


def test_what_this_machine_lacks_is_never_launched_and_stays_in_the_run(tmp_path):
    executor = FakeExecutor()
    done = run(tmp_path, suite("a/board", "a/cpu"), executor)
    assert set(executor.order) == {id_of("a/cpu")}
    assert list(done.cases["status"]) == ["unavailable", "ok"]
    assert done.cases["reason"][0] == "not a board"


def test_disturbed_launches_give_way_to_quiet_ones(tmp_path):
    noisy = good(99.0, flags=["contended"])
    executor = FakeExecutor({"a/cpu": [noisy, good(10.0), good(10.0), good(10.0)]})
    done = run(tmp_path, suite("a/cpu"), executor)
    assert len(executor.order) == 4  # one repeat: a third of three rounds
    row = done.cases.iloc[0]
    assert row["latency_ms_high"] == pytest.approx(10.0)
    assert row["flags"] == []


def test_load_repeats_no_launch_whose_bursts_know_what_they_waited(tmp_path):
    """It moves no ratio; a device that was throttled does."""
    turns = {"counts": [50], "lost_ns": [MS], "running_ns": [9 * MS] * 50}
    blocks = [turns | {"block": str(number)} for number in range(4)]
    for flag, launches in (("contended", 3), ("throttled", 4)):
        noisy = [good(10.0, flags=[flag], turns=block) for block in blocks]
        quiet = [good(turns=block) for block in blocks]
        executor = FakeExecutor({"a/cpu": noisy, "b/cpu": quiet})
        in_turn = replace(MEASURE, together=None, target_ratio=0.9)
        done = run(tmp_path / flag, suite("a/cpu", "b/cpu", measure=in_turn), executor)
        assert executor.order.count(id_of("a/cpu")) == launches
        assert done.cases["status"][0] == "ok"


def test_load_repeats_a_launch_that_was_alone_since_it_moves_its_latency(tmp_path):
    turns = {"block": "0.0", "counts": [50], "lost_ns": [MS], "running_ns": [9 * MS] * 50}
    executor = FakeExecutor({"a/cpu": [good(10.0, flags=["contended"], turns=turns)]})
    run(tmp_path, suite("a/cpu"), executor)
    assert len(executor.order) == 4


def test_a_machine_that_is_always_disturbed_is_measured_and_flagged(tmp_path):
    executor = FakeExecutor({"a/cpu": [good(99.0, flags=["contended"])] * 9})
    done = run(tmp_path, suite("a/cpu"), executor)
    assert len(executor.order) == 4
    assert (done.cases["status"][0], done.cases["flags"][0]) == ("ok", ["contended"])


class Watcher:
    """Progress that notes what it is told."""

    def __init__(self):
        self.events = []

    def preparing(self, model, done, total):
        self.events.append(("preparing", model, done, total))

    def started(self, plan, launches):
        self.events.append(("started", launches))

    def launching(self, case_id):
        self.events.append(("launching", case_id))

    def launched(self, launch, left):
        self.events.append(("launched", launch.status.value, left))


def test_progress_is_told_in_order_with_what_is_left(tmp_path):
    watcher = Watcher()
    measure = Measure(rounds=2, memory=False)
    run(tmp_path, suite("a/cpu", measure=measure), FakeExecutor({"a/cpu": [bad()]}), watcher)
    a = id_of("a/cpu")
    assert watcher.events == [
        ("preparing", "a@64", 0, 1),
        ("started", 2),
        ("launching", a), ("launched", "failed", 2),
        ("launching", a), ("launched", "ok", 1),
        ("launching", a), ("launched", "ok", 0),
    ]  # fmt: skip


# Memory -----------------------------------------------------------------------------------------

WITH_MEMORY = replace(MEASURE, memory=True)


def memory(**answer):
    """Make the outcome of a memory launch."""
    return Outcome(Status.OK, answer={"memory": {"method": "invented"}, **answer})


def test_memory_has_one_launch_a_case_after_all_timing(tmp_path):
    executor = FakeExecutor(
        {"a/cpu": [good()] * 3 + [memory()], "b/cpu": [good()] * 3 + [memory()]}
    )
    done = run(tmp_path, suite("a/cpu", "b/cpu", measure=WITH_MEMORY), executor)
    assert [one.job for one, _, _ in executor.jobs] == ["time"] * 6 + ["memory"] * 2
    assert executor.order[6:] == [id_of("a/cpu"), id_of("b/cpu")]
    assert list(done.cases["launches"]) == [3, 3]  # those that were timed


def test_what_could_not_be_timed_has_no_memory_launch(tmp_path):
    executor = FakeExecutor({"a/cpu": [bad()] * 2, "b/cpu": [bad("unsupported")]})
    run(tmp_path, suite("a/cpu", "b/cpu", measure=WITH_MEMORY), executor)
    assert {one.job for one, _, _ in executor.jobs} == {"time"}


def test_a_memory_launch_that_fails_does_not_spoil_the_times(tmp_path):
    executor = FakeExecutor({"a/cpu": [good()] * 3 + [bad("oom", "memory")]})
    done = run(tmp_path, suite("a/cpu", measure=WITH_MEMORY), executor)
    assert list(done.cases["status"]) == ["ok"]
    assert list(done.cases["latency_ms"]) == [10.0]
    assert len(executor.jobs) == 4  # and is not repeated


def test_resume_measures_the_memory_that_is_missing(tmp_path):
    cases = suite("a/cpu", "b/cpu", measure=WITH_MEMORY)
    plan = plan_suite(cases)
    directory = new_run(plan, tmp_path)
    executor = FakeExecutor({"a/cpu": [good()] * 3 + [memory()],
                             "b/cpu": [good()] * 3 + [KeyboardInterrupt()]})  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        execute(plan, directory, executor=executor)
    plan, stored = resumable(directory.path)
    rest = FakeExecutor({"b/cpu": [memory()]})
    execute(plan, RunDirectory(stored.path), stored.launches, executor=rest)
    assert [(one.job, one.case.id) for one, _, _ in rest.jobs] == [("memory", id_of("b/cpu"))]


# Interruption and resume ------------------------------------------------------------------------


def test_ctrl_c_leaves_what_was_measured_and_resume_measures_only_the_rest(tmp_path):
    plan = plan_suite(suite("a/cpu", "b/cpu"))
    directory = new_run(plan, tmp_path)
    # Launches 1 to 4 are good, the fifth is broken off.
    executor = FakeExecutor({"a/cpu": [good()] * 2 + [KeyboardInterrupt()],
                             "b/cpu": [good()] * 2 + [KeyboardInterrupt()]})  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        execute(plan, directory, executor=executor)
    broken = load(directory.path)
    assert len(broken.launches) == 4
    assert list(broken.cases["status"]) == ["interrupted", "interrupted"]
    assert broken.cases["reason"][0] == "the run ended after 2 of 3 launches"
    assert list(broken.cases["latency_ms"]) == [10.0, 10.0]  # what there is, is shown

    plan, stored = resumable(directory.path)
    rest = FakeExecutor()
    execute(plan, RunDirectory(stored.path), stored.launches, executor=rest)
    assert rest.prepared == []
    assert Counter(rest.order) == {id_of("a/cpu"): 1, id_of("b/cpu"): 1}
    whole = load(directory.path)
    assert list(whole.cases["status"]) == ["ok", "ok"]
    assert list(whole.cases["flags"]) == [["resumed"], ["resumed", "separate_launches"]]
    assert list(whole.launches["number"]) == [0, 0, 1, 1, 2, 2]
    assert whole.launches["session"].nunique() == 2


def test_the_reference_takes_part_where_another_case_is_resumed(tmp_path):
    """It has all its launches, and ratios of the new blocks are relative to it."""
    in_turn = replace(MEASURE, together=None)
    plan = plan_suite(suite("a/cpu", "b/cpu", "c/cpu", measure=in_turn))
    directory = new_run(plan, tmp_path)
    lost = FakeExecutor({f"{name}/cpu": [good()] * 2 + [bad("timeout")] * 2 for name in "bc"})
    execute(plan, directory, executor=lost)
    plan, stored = resumable(directory.path)
    rest = FakeExecutor()
    execute(plan, RunDirectory(stored.path), stored.launches, executor=rest)
    assert Counter(rest.order) == {id_of(f"{name}/cpu"): 1 for name in "abc"}


def test_the_reference_of_each_board_is_prepared_where_others_of_it_are_resumed(tmp_path):
    in_turn = replace(MEASURE, together=None)
    texts = [f"{name}/cpu" for name in "abcd"]
    plan = plan_suite(suite(*texts, measure=in_turn))
    directory = new_run(plan, tmp_path)
    lost = FakeExecutor({f"{name}/cpu": [good()] * 2 + [bad("timeout")] * 2 for name in "bd"})
    execute(plan, directory, executor=lost)
    launches = read_run(directory.path).launches
    a, b, c, d = map(id_of, texts)
    fleet = {"seats": {a: "x", b: "x", c: "y", d: "y"}, "references": {"x": a, "y": c}}
    directory.update(lambda meta: meta.update(fleet=fleet, reference=None))
    session = Session(plan, directory, FakeExecutor(), Silent())
    session.recall(launches)
    assert [planned.id for planned in session.prepare()] == [a, b, c, d]


def test_a_reference_that_failed_for_good_is_not_loaded_for_the_others(tmp_path):
    in_turn = replace(MEASURE, together=None, rounds=5)
    plan = plan_suite(suite("a/cpu", "b/cpu", "c/cpu", measure=in_turn))
    executor = FakeExecutor({"a/cpu": [bad("timeout")] * 9})
    execute(plan, new_run(plan, tmp_path), executor=executor)
    assert Counter(executor.order) == {
        id_of("a/cpu"): 2, id_of("b/cpu"): 5, id_of("c/cpu"): 5,
    }  # fmt: skip


@pytest.mark.parametrize("fails", ["prepare", "launch"])
def test_a_reference_that_cannot_run_is_replaced_by_the_first_case_that_can(tmp_path, fails):
    plan = plan_suite(suite("a/cpu", "b/cpu", "c/cpu", measure=replace(MEASURE, together=None)))
    directory = new_run(plan, tmp_path)
    assert read_run(directory.path).meta["reference"] == id_of("a/cpu")
    executor = Referring(
        {"a/cpu": [bad("timeout")] * 9 if fails == "launch" else []},
        {"a@64": bad()} if fails == "prepare" else {},
    )
    execute(plan, directory, executor=executor)
    assert read_run(directory.path).meta["reference"] == id_of("b/cpu")
    # It fails twice beside the others before it is given up.
    own = [id_of("a/cpu")] * 2 if fails == "launch" else []
    count = len(own)
    assert executor.references[:count] == own
    assert set(executor.references[count:]) == {id_of("b/cpu")}


class Referring(FakeExecutor):
    """Notes the reference of each block."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.references = []

    def block(self, request, timeout_seconds):
        self.references.append(request.arms[request.reference].case.id)
        return super().block(request, timeout_seconds)


def test_one_bad_end_and_then_an_interruption_is_no_failure(tmp_path):
    """Resumed, the case is tried once more: that is no verdict on it yet."""
    plan = plan_suite(suite("a/cpu"))
    directory = new_run(plan, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, directory, executor=FakeExecutor(
            {"a/cpu": [bad("crashed", "SIGSEGV"), KeyboardInterrupt()]}))  # fmt: skip
    broken = load(directory.path).cases
    assert broken["status"][0] == "interrupted"
    assert broken["reason"][0] == "the run ended after 0 of 3 launches; before that: SIGSEGV"
    plan, stored = resumable(directory.path)
    execute(plan, directory, stored.launches, executor=FakeExecutor())
    assert load(directory.path).cases["status"][0] == "ok"


def test_a_clock_that_is_set_back_spoils_no_order(tmp_path, monkeypatch):
    """Launches are numbered, time-outs use the monotonic clock, a run's name is made unique."""
    plan = plan_suite(suite("a/cpu"))
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    clock = iter([now - datetime.timedelta(hours=hours) for hours in range(99)])

    class SetBack(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return next(clock)

    set_back = SimpleNamespace(datetime=SetBack, timezone=datetime.timezone)
    monkeypatch.setattr(ended, "datetime", set_back)
    directory = new_run(plan, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, directory, executor=FakeExecutor({"a/cpu": [good(), KeyboardInterrupt()]}))
    plan, stored = resumable(directory.path)
    execute(plan, directory, stored.launches, executor=FakeExecutor())
    whole = load(directory.path)
    assert list(whole.launches["number"]) == [0, 1, 2]
    assert list(whole.launches["ended"]) == sorted(whole.launches["ended"], reverse=True)
    assert (whole.cases["status"][0], whole.cases["launches"][0]) == ("ok", 3)


def test_a_whole_run_resumed_does_nothing(tmp_path):
    done = run(tmp_path, suite("a/cpu"), FakeExecutor())
    plan, stored = resumable(done.path)
    again = FakeExecutor()
    execute(plan, RunDirectory(stored.path), stored.launches, executor=again)
    assert (again.prepared, again.jobs) == ([], [])


def test_resume_tries_failures_again_but_asks_for_no_answer_twice(tmp_path):
    executor = FakeExecutor({"a/cpu": [bad()] * 2, "b/cpu": [bad("unsupported", "no operator")]})
    done = run(tmp_path, suite("a/cpu", "b/cpu"), executor)
    assert list(done.cases["status"]) == ["failed", "unsupported"]
    plan, stored = resumable(done.path)
    again = FakeExecutor()
    execute(plan, RunDirectory(stored.path), stored.launches, executor=again)
    assert Counter(again.order) == {id_of("a/cpu"): 3}
    assert list(load(done.path).cases["status"]) == ["ok", "unsupported"]


def test_resume_exports_nothing_again_that_cannot_be_expressed(tmp_path):
    cases = suite("a/cpu", "a/gpu")
    onnx = plan_suite(cases).cases[0].artifact.key
    refusal = prepared(unsupported={onnx: "ONNX cannot express it"})
    done = run(tmp_path, cases, FakeExecutor(prepares={"a@64": refusal}))
    again = FakeExecutor()
    plan, stored = resumable(done.path)
    execute(plan, RunDirectory(stored.path), stored.launches, executor=again)
    assert (again.prepared, again.order) == ([], [])


def test_a_run_is_not_resumed_on_another_machine(tmp_path):
    done = run(tmp_path, suite("a/cpu"), FakeExecutor())
    meta = dict(done.stored.meta)
    meta["environment"] = {**meta["environment"], "cpu": "another processor"}
    RunDirectory(done.path).update(lambda old: old.update(meta))
    with pytest.raises(InputError, match="cannot be resumed: cpu was 'another processor'"):
        resumable(done.path)


def test_a_run_is_not_resumed_after_a_model_changed(tmp_path):
    done = run(tmp_path, suite("a/cpu"), FakeExecutor())
    meta = dict(done.stored.meta)
    meta["cases"] = [{**case, "key": "0" * 16} for case in meta["cases"]]
    RunDirectory(done.path).update(lambda old: old.update(meta))
    with pytest.raises(InputError, match=f"the definition of {id_of('a/cpu')} .* changed"):
        resumable(done.path)


def test_run_json_says_what_was_planned_where(tmp_path):
    done = run(tmp_path, suite("a/cpu", "a/board"), FakeExecutor())
    meta = done.stored.meta
    assert (meta["format"], meta["run"], meta["schedule"]) == (
        FORMAT,
        done.path.name,
        "rounds",
    )
    assert meta["suite"]["name"] == "tiny"
    assert meta["suite"]["measure"] == {**vars(MEASURE), "extras": []}
    assert [case["id"] for case in meta["cases"]] == [id_of("a/cpu"), id_of("a/board")]
    assert [case["status"] for case in meta["cases"]] == [None, "unavailable"]
    assert {"cpu", "cores_usable", "os", "kernel", "libraries", "git_commit"} <= set(
        meta["environment"]
    )
    assert done.name.endswith("-tiny")


# The budget of time -----------------------------------------------------------------------------


def test_a_run_whose_budget_is_spent_is_complete_and_can_go_on(tmp_path):
    """2 cases of 9 rounds at 10 s a launch: 90 s are spent with the tenth launch, in round 5."""
    measure = replace(MEASURE, rounds=9, budget_seconds=90.0)
    plan = plan_suite(suite("a/cpu", "b/cpu", measure=measure))
    directory = new_run(plan, tmp_path / "results")
    executor = SlowExecutor()
    Session(plan, directory, executor, Silent(), clock=lambda: executor.now).run([])
    done = load(directory.path)
    assert Counter(executor.order) == {id_of("a/cpu"): 5, id_of("b/cpu"): 5}
    assert set(done.cases["status"]) == {"ok"}
    assert done.stored.meta["rounds_in_budget"] == 5
    # Resumed, the rest is measured.
    plan, stored = resumable(directory.path)
    execute(plan, directory, stored.launches, executor=FakeExecutor())
    assert load(directory.path).launches.groupby("case").size().tolist() == [9, 9]
    assert "rounds_in_budget" not in read_run(directory.path).meta


class Scattering(FakeExecutor):
    """Cases take turns for ten rounds; b takes 10 and 20 ms in turn from block to block."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.blocks = []

    def block(self, request, timeout_seconds):
        self.now += 10.0
        self.blocks.append("".join(sorted(arm.case.id[0] for arm in request.arms)))
        for number, arm in enumerate(request.arms):
            ms = 20.0 if arm.case.id.startswith("b") and len(self.blocks) % 2 else 10.0
            yield number, good(ms, turns={"block": request.name, "counts": [5] * 10})


def test_a_run_whose_budget_ended_its_ratios_gets_them_sharper_when_resumed(tmp_path):
    measure = replace(MEASURE, together=None, budget_seconds=25.0)
    plan = plan_suite(suite("a/cpu", "b/cpu", "c/cpu", measure=measure))
    directory = new_run(plan, tmp_path / "results")
    executor = Scattering()
    Session(plan, directory, executor, Silent(), clock=lambda: executor.now).run([])
    assert executor.blocks == ["abc"] * 3  # 25 s are spent
    plan, stored = resumable(directory.path)
    again = Scattering()
    Session(plan, directory, again, Silent(), clock=lambda: again.now).run(stored.launches)
    # The case that scatters and the reference, until the budget of this session is spent.
    assert again.blocks == ["ab"] * 3


class LosingItsReference(Scattering):
    """From the third block on the reference a fails."""

    def block(self, request, timeout_seconds):
        for number, outcome in super().block(request, timeout_seconds):
            fails = len(self.blocks) > 2 and request.arms[number].case.id.startswith("a")
            yield number, bad("timeout") if fails else outcome


def test_no_blocks_are_for_ratios_to_a_reference_that_failed_for_good(tmp_path):
    measure = replace(MEASURE, together=None, rounds=2)
    plan = plan_suite(suite("a/cpu", "b/cpu", measure=measure))
    executor = LosingItsReference()
    Session(plan, new_run(plan, tmp_path), executor, Silent()).run([])
    # Two blocks, and two more since b scatters, in which a fails; b may have six launches.
    assert executor.blocks == ["ab"] * 4


def test_launches_for_memory_are_reserved_in_the_budget(tmp_path):
    """1 case, 80 s: the fourth launch ends at 40 s, one for memory is left: 50 s; the seventh
    ends at 70 s, and memory would be over at 80 s; with the eighth it would be late."""
    measure = replace(MEASURE, rounds=20, budget_seconds=80.0, memory=True)
    plan = plan_suite(suite("a/cpu", measure=measure))
    directory = new_run(plan, tmp_path / "results")
    executor = SlowExecutor()
    Session(plan, directory, executor, Silent(), clock=lambda: executor.now).run([])
    jobs = [one.job for one, _, _ in executor.jobs]
    assert jobs == ["time"] * 8 + ["memory"]


@pytest.mark.parametrize("fact", [float("nan"), float("inf"), 10**400, "\ud800"])
def test_a_fact_of_a_backend_that_json_cannot_hold_costs_its_launch(tmp_path, fact):
    """Facts have no type of their own: NaN there would end the run in a traceback."""
    plan = plan_suite(suite("m/cpu", "n/cpu"))
    run = new_run(plan, tmp_path)
    odd = [good(backend={"fact": fact}) for _ in range(3)]
    execute(plan, run, executor=FakeExecutor({"m/cpu": odd}))
    first, second = load(run.path).records
    assert second.status is Status.OK
    if fact == "\ud800":
        assert first.launches[0].result.backend == {"fact": "\\ud800"}
    else:
        assert first.status is Status.FAILED
        assert "a number is not finite, or has over 64 bits" in first.reason


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"list": [[]] * 30_000}, "more than 20,000 lists and objects"),
        ({"list": [0] * 300_000}, "more than 200,000 values"),
    ],
)
def test_a_launch_that_would_not_be_read_is_kept_as_failed(tmp_path, facts, what):
    """Its line would count as damaged, and what was measured as interrupted."""
    plan = plan_suite(suite("m/cpu", "n/cpu"))
    run = new_run(plan, tmp_path)
    execute(plan, run, executor=FakeExecutor({"m/cpu": [good(backend=facts)] * 2}))
    first, second = load(run.path).records
    assert second.status is Status.OK
    assert (first.status, len(first.launches)) == (Status.FAILED, 2)
    assert first.reason == f"the launch cannot be kept: it holds {what}"


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        # Of two images: 300 + 2 x 1000 bytes.
        ({"weight_bytes": 300, "peak_live_bytes": 1000}, 2300),
        ({"weight_bytes": 300}, 0),  # half an estimate is none
    ],
)
def test_a_block_knows_what_weights_and_activations_of_its_batch_take(tmp_path, totals, expected):
    found = Outcome(Status.OK, answer={"analysis": {"totals": totals}})
    cases = [replace(case, batch=2) for case in suite("a/gpu", "b/cpu").cases]
    asked = replace(suite("a/gpu"), cases=tuple(cases), measure=replace(MEASURE, together=None))
    executor = FakeExecutor(prepares={"a@64": found, "b@64": found})
    run(tmp_path, asked, executor)
    timed = [request for request, _, _ in executor.jobs if request.job == "time"]
    assert {request.model_bytes for request in timed} == {expected}


class InTurnExecutor(SlowExecutor):
    """All cases of a block end together, 40 s after it began."""

    def block(self, request, timeout_seconds):
        now = self.now
        ended = list(one_at_a_time(self, request, timeout_seconds))
        self.now = now + 40.0
        return iter(ended)


class TenRounds(FakeExecutor):
    """Each block has ten rounds of five inferences a case."""

    def __init__(self):
        super().__init__()
        self.skips = []

    def block(self, request, timeout_seconds):
        self.skips.append(request.skip)
        turns = {"block": request.name, "counts": [5] * 10}
        for number in range(len(request.arms)):
            yield number, good(turns=turns)


def test_each_block_goes_on_with_the_orders_where_the_last_one_ended(tmp_path):
    executor = TenRounds()
    measure = replace(MEASURE, together=None, target_ratio=0.9)
    run(tmp_path, suite("a/cpu", "b/cpu", measure=measure), executor)
    assert executor.skips == [0, 10, 20]


def test_the_launches_of_a_block_share_its_time_in_the_budget(tmp_path):
    """8 cases, 5 blocks of 40 s and 8 launches for memory, 10 s each: 280 s of 300 s.

    A block's first launch alone would look like 40 s, and 8 such launches for memory like 320 s.
    """
    measure = replace(
        MEASURE, rounds=5, together=None, budget_seconds=300.0, memory=True, target_ratio=0.9
    )
    cases = suite(*(f"{name}/cpu" for name in "abcdefgh"), measure=measure)
    plan = plan_suite(cases)
    directory = new_run(plan, tmp_path / "results")
    executor = InTurnExecutor()
    Session(plan, directory, executor, Silent(), clock=lambda: executor.now).run([])
    timed = [case for (request, _, _), case in zip(executor.jobs, executor.order, strict=True)
             if request.job == "time"]  # fmt: skip
    assert Counter(timed) == dict.fromkeys(executor.order, 5)
    assert "rounds_in_budget" not in load(directory.path).stored.meta
