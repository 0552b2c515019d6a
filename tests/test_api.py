"""``cspbench.run`` and ``cspbench.explain``: alone on the machine, and one suite a run."""

import contextlib

import pytest

import cspbench
from cspbench.errors import InputError
from cspbench.machine.lock import timing_lock

SUITE = "name: one\nmatrix: {model: [peleenet@64], backend: [opencv-cpu]}\n"
PAIR = ("peleenet@64", "csppeleenet@64")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working directory and a lock of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(tmp_path))
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
