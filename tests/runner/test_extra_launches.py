"""Launches beside timing: layers after it, compilation before it; neither decides a case."""

from dataclasses import dataclass, replace

import pytest

from cspbench.core.registry import Registry
from cspbench.core.statuses import Status
from cspbench.runner import plan as plan_module
from cspbench.runner import session as session_module
from cspbench.runner.plan import plan_suite
from cspbench.runner.process import Outcome
from cspbench.runner.run import execute, new_run, resumable
from tests.runner.test_execute import (
    MEASURE,
    FakeExecutor,
    Invented,
    bad,
    good,
    id_of,
    run,
    suite,
)


@dataclass(frozen=True)
class Compiling(Invented):
    """A backend that compiles."""

    def compiles(self, options):
        return True

    def compiled_from_cache(self):
        return False


@pytest.fixture(autouse=True)
def _machine(tmp_path, monkeypatch):
    backends = Registry("backend", (), "cspbench.tests.none")
    backends.add(Invented("cpu"))
    backends.add(Compiling("compiler", artifact="pt2"))
    monkeypatch.setattr(plan_module, "BACKENDS", backends)
    monkeypatch.setattr(session_module, "BACKENDS", backends)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))


def layers():
    """A profile of one entry of 8 ms in an inference of 10 ms."""
    found = {
        "entries": [["conv", "Conv", 8_000_000, ["conv"]]], "nodes": [["conv", "Conv", [], []]],
        "total_ns": 10_000_000, "runs": 5, "method": "invented",
    }  # fmt: skip
    return Outcome(Status.OK, answer={"layers": found})


def compiled(seconds=33.0, cached=False):
    answer = {"compile_seconds": seconds, "compile_cached": cached}
    return Outcome(Status.OK, answer=answer)


WITH_LAYERS = replace(MEASURE, layers=True)


def test_layers_have_a_launch_of_their_own_after_timing(tmp_path):
    executor = FakeExecutor({"a/cpu": [good()] * 3 + [layers()]})
    done = run(tmp_path, suite("a/cpu", measure=WITH_LAYERS), executor)
    assert [one.job for one, _, _ in executor.jobs] == ["time"] * 3 + ["layers"]
    # The Analysis of this test has no layers: the entry stands alone.
    frame = done.layer_times
    assert list(frame["entry"]) == ["conv", "(between layers)"]
    assert list(frame["time_ms"]) == [8.0, 2.0]
    assert list(frame["share"]) == [0.8, 0.2]
    assert done.cases["launches"][0] == 3


def test_a_profile_that_fails_does_not_spoil_the_times(tmp_path):
    executor = FakeExecutor({"a/cpu": [good()] * 3 + [bad("unsupported", "no profiler")]})
    done = run(tmp_path, suite("a/cpu", measure=WITH_LAYERS), executor)
    assert list(done.cases["status"]) == ["ok"]
    assert done.layer_times.empty


def test_compilation_comes_first_and_its_time_has_a_column(tmp_path):
    executor = FakeExecutor({"a/compiler": [compiled()]})
    done = run(tmp_path, suite("a/compiler", "a/cpu"), executor)
    jobs = [(one.job, one.case.id) for one, _, _ in executor.jobs]
    assert jobs[0] == ("compile", id_of("a/compiler"))
    assert [job for job, _ in jobs[1:]] == ["time"] * 6
    assert done.cases["compile_seconds"][0] == 33.0
    assert done.cases["compile_seconds"].isna()[1]
    assert list(done.cases["launches"]) == [3, 3]


def test_what_was_in_the_cache_has_no_time_of_compilation(tmp_path):
    executor = FakeExecutor({"a/compiler": [compiled(2.0, cached=True)]})
    done = run(tmp_path, suite("a/compiler"), executor)
    assert done.cases["compile_seconds"].isna()[0]
    assert list(done.cases["launches"]) == [3]


def test_what_cannot_be_compiled_is_not_timed(tmp_path):
    executor = FakeExecutor({"a/compiler": [bad("unavailable", "no compiler")]})
    done = run(tmp_path, suite("a/compiler", "a/cpu"), executor)
    assert [one.job for one, _, _ in executor.jobs] == ["compile"] + ["time"] * 3
    assert list(done.cases["status"]) == ["unavailable", "ok"]
    assert done.cases["reason"][0] == "no compiler"


def test_a_resumed_run_compiles_no_second_time(tmp_path):
    plan = plan_suite(suite("a/compiler"))
    directory = new_run(plan, tmp_path)
    first = FakeExecutor({"a/compiler": [compiled(), good(), KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        execute(plan, directory, executor=first)
    again, stored = resumable(directory.path)
    rest = FakeExecutor()
    execute(again, directory, before=stored.launches, executor=rest)
    assert [one.job for one, _, _ in rest.jobs] == ["time"] * 2
