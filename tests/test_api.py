"""The verbs of ``cspbench``: alone on the machine, one suite a run, sides as the command's."""

import contextlib

import pytest

import cspbench
from cspbench.errors import InputError
from cspbench.machine.lock import timing_lock
from cspbench.suite.load import load_suite
from tests.report.runs import good, write_run

SUITE = "name: one\nmatrix: {model: [peleenet@64], backend: [opencv-cpu]}\n"
PAIR = ("peleenet@64", "csppeleenet@64")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(SUITE)


@pytest.fixture
def measured(monkeypatch):
    """Instead of measuring: note whether the machine's timing lock is held by then."""
    held = []

    def execute(*_, **__):
        try:
            with timing_lock("another", wait=False):
                held.append(False)
        except InputError:
            held.append(True)

    monkeypatch.setattr("cspbench.runner.run.execute", execute)
    return held


def free():
    """Take the lock, which a test has left."""
    with timing_lock("after", wait=False):
        return True


def test_run_measures_alone_on_the_machine(measured):
    run = cspbench.run("one.yaml")
    assert list(run.cases["id"]) == ["peleenet@64/opencv-cpu/b1/t1"]
    assert measured == [True]
    assert free()


def test_explain_measures_alone_on_the_machine(measured):
    with pytest.raises(InputError, match="was not measured"):
        cspbench.explain(*PAIR)
    assert measured == [True]
    assert free()


def test_the_command_takes_the_lock_once(measured):
    from cspbench.cli.main import main

    with pytest.raises(SystemExit):  # a second lock of this process would wait for the first
        main(["explain", *PAIR, "--no-wait"])
    assert measured == [True]


@pytest.mark.parametrize(
    "measure", [lambda: cspbench.run("one.yaml"), lambda: cspbench.explain(*PAIR)]
)
def test_waiting_is_told_by_a_warning(measured, monkeypatch, measure):
    @contextlib.contextmanager
    def busy(what, *, wait=True, waiting=None):
        assert wait
        waiting(f"another run measures, {what} waits")
        yield

    monkeypatch.setattr("cspbench.machine.lock.timing_lock", busy)
    with (
        pytest.warns(UserWarning, match="another run measures"),
        contextlib.suppress(InputError),  # nothing was measured, so nothing is explained
    ):
        measure()


def test_several_suites_are_refused_by_name_and_nothing_is_measured(measured, tmp_path):
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"many/{name}.yaml").write_text(SUITE)
    with pytest.raises(InputError, match=r"many holds 2 suites, .*: many/a.yaml, many/b.yaml"):
        cspbench.run("many")
    assert measured == []
    assert not (tmp_path / "results").exists()


def test_a_directory_with_one_suite_is_that_suite(measured, tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "few/one.yaml").write_text(SUITE)
    assert cspbench.run(tmp_path / "few").name.endswith("-one")


def test_plan_takes_a_file_settings_and_patterns():
    plan = cspbench.plan("one.yaml", settings={"matrix.batch": [1, 2]}, only=["*/b2/*"])
    assert [planned.id for planned in plan.cases] == ["peleenet@64/opencv-cpu/b2/t1"]


def test_plan_takes_an_expanded_suite_as_it_is():
    suite = load_suite("one.yaml")
    assert cspbench.plan(suite).suite is suite
    with pytest.raises(InputError, match="this suite is expanded already"):
        cspbench.plan(suite, settings={"threads": 2})


def test_run_measures_what_plan_names(measured, tmp_path):
    run = cspbench.run("one.yaml", tmp_path / "here", settings={"matrix.batch": [1, 2]},
                       only=["*/b2/*"])  # fmt: skip
    assert list(run.cases["id"]) == ["peleenet@64/opencv-cpu/b2/t1"]
    assert run.path.parent == tmp_path / "here"


@pytest.fixture
def judged(monkeypatch):
    """Instead of measuring: which of the two gates was asked for what."""
    asked = []
    for module, name in (("job", "run_gate"), ("stored", "run_stored_gate")):
        monkeypatch.setattr(
            f"cspbench.gating.{module}.{name}",
            lambda *given, name=name, **_board: asked.append((name, *given)),
        )
    return asked


def test_gate_measures_two_settings(judged):
    cspbench.gate("one.yaml", "set:threads=1", "set:threads=2", strict=True, only=["*"])
    [(name, file, base, head, settings, _)] = judged
    assert (name, file.name) == ("run_gate", "one.yaml")
    assert (base.settings, head.settings) == ((("threads", "1"),), (("threads", "2"),))
    assert (settings.strict, settings.static, settings.only) == (True, True, ["*"])


def test_gate_reads_a_stored_run(judged, tmp_path):
    case = "peleenet@64/opencv-cpu/b1/t1"
    write_run(tmp_path / "results", {case: good(case, 10.0)}, name="before")
    cspbench.gate("one.yaml", "before")
    [(name, _, base, head, _, _)] = judged
    assert (name, base.kind, head.kind) == ("run_stored_gate", "run", "set")


def test_gate_refuses_an_environment_for_a_stored_run(judged, tmp_path):
    case = "peleenet@64/opencv-cpu/b1/t1"
    write_run(tmp_path / "results", {case: good(case, 10.0)}, name="before")
    with pytest.raises(InputError, match="before has an environment already"):
        cspbench.gate("one.yaml", "before", base_env="somewhere")
    assert judged == []


def test_compare_takes_names_and_runs(tmp_path):
    case = "peleenet@64/opencv-cpu/b1/t1"
    old = write_run(tmp_path / "results", {case: good(case, 10.0)}, name="old")
    new = write_run(tmp_path / "results", {case: good(case, 20.0)}, name="new",
                    environment={"cpu": "another"})  # fmt: skip
    named = cspbench.compare("old", "new")
    assert named.table["ratio"].tolist() == pytest.approx([2.0], rel=0.01)
    assert any("cpu was" in phrase for phrase in named.differences)
    assert cspbench.compare(old, new).table.equals(named.table)
