import os
import subprocess
import sys
from pathlib import Path

import pytest

import cspbench
from cspbench.errors import InputError
from cspbench.gating.environments import changed_locks
from cspbench.gating.sides import (
    SideRequest,
    environment_facts,
    interpreter,
    opened,
    parse_side,
)
from cspbench.runner.process import WorkerProcess, worker_environment
from cspbench.store.rundir import RunDirectory


def parse(text, suite, results=None):
    return parse_side(text, suite, results or suite.parent / "results")


@pytest.fixture
def suite(repository):
    return repository / "suites/gate.yaml"


# What a side is


def test_settings(suite):
    side = parse("set:engine=new, threads=2", suite)
    assert (side.kind, side.settings) == ("set", (("engine", "new"), ("threads", "2")))
    assert side.axes == {"engine", "threads"}


def test_no_settings_are_the_suite_as_it_is(suite):
    assert parse("set:", suite).settings == ()


def test_a_comma_inside_brackets_belongs_to_the_value(suite):
    side = parse("set:model=csppeleenet[gamma=0.25,fusion=last],threads=2", suite)
    assert dict(side.settings) == {
        "model": "csppeleenet[gamma=0.25,fusion=last]", "threads": "2",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["set:engine", "set:=new", "set:a=1,,b=2"])
def test_settings_that_are_none(suite, text):
    with pytest.raises(InputError, match=r"write set:key=value"):
        parse(text, suite)


def test_a_setting_is_set_twice(suite):
    with pytest.raises(InputError, match="sets threads twice"):
        parse("set:threads=1,threads=2", suite)


def test_git_refs_become_commits(suite, git):
    assert parse("main", suite).value == git("rev-parse", "main")
    assert parse("main~1", suite).kind == "git"


def test_a_folder_that_is_named_as_the_base_is_not_taken_for_it(suite, git, tmp_path, monkeypatch):
    """A pull request can bring a stored run in a folder of any name: also of the base's commit."""
    commit = git("rev-parse", "main~1")
    monkeypatch.chdir(tmp_path)
    forged = RunDirectory.create(tmp_path, commit, {"suite": {}, "cases": []}).path
    with pytest.raises(InputError, match=f"is a git ref and a stored run: write git:{commit} or"):
        parse(commit, suite)
    assert parse(f"git:{commit}", suite) == SideRequest(f"git:{commit}", "git", commit)
    assert parse(f"run:{commit}", suite).value == str(forged.relative_to(tmp_path))
    with pytest.raises(InputError, match="is no side of a gate"):
        parse("git:nowhere", suite)


def test_nothing_known_names_the_four_kinds(suite):
    with pytest.raises(InputError) as error:
        parse("nonsense", suite)
    for word in ("set:", "env:", "git ref", "stored run", "has no such commit"):
        assert word in str(error.value)


@pytest.mark.parametrize("text", ["--help", "-x", "--upload-pack=touch /tmp/x", "HEAD; ls"])
def test_a_ref_is_never_an_option(suite, text):
    with pytest.raises(InputError, match="is no side of a gate"):
        parse(text, suite)


def test_outside_of_a_repository(tmp_path):
    with pytest.raises(InputError, match="is in no git repository"):
        parse("main", tmp_path / "suite.yaml")


# Environments


def test_an_environment_is_an_interpreter_or_a_folder(tmp_path):
    assert interpreter(sys.executable) == sys.executable
    assert interpreter(sys.prefix) == str(Path(sys.prefix) / "bin/python")
    for wrong in ("", str(tmp_path), str(tmp_path / "none"), __file__):
        with pytest.raises(InputError, match="no Python interpreter"):
            interpreter(wrong)


@pytest.fixture
def other_environment(tmp_path):
    """A virtual environment of its own that sees this one's packages, but not cspbench itself."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    import numpy

    packages = Path(numpy.__file__).parent.parent
    for name in ("numpy", "numpy.libs", "cv2", "opencv_python_headless.libs"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    return str(tmp_path / "env/bin/python")


def test_a_worker_runs_in_another_environment(other_environment, suite, opencv_artifact):
    with opened(parse(f"env:{other_environment}", suite), suite, ()) as side:
        facts = side.facts
        assert facts["executable"] == other_environment
        assert "torch" not in facts["libraries"]
        from cspbench.jobs.load import LoadRequest
        from cspbench.runner.arms import ArmSpec, WorkerArm

        job = {
            "case": "yolov3-tiny-prn@96/opencv-cpu/b1/t1",
            "artifact": str(opencv_artifact.path), "reference": str(opencv_artifact.reference),
            "seed": 0, "warmup_seconds": 0.1,
        }  # fmt: skip
        arm = WorkerArm(
            ArmSpec("head", LoadRequest.from_json(job), python=side.python, path=side.path)
        )
        arm.start()
        try:
            assert arm.load().result.backend["threads"] == 1
        finally:
            arm.close()


def test_an_environment_without_what_a_worker_needs(tmp_path):
    (tmp_path / "cspbench").mkdir()
    (tmp_path / "cspbench/__init__.py").touch()
    with pytest.raises(InputError, match="cannot run a worker of cspbench"):
        environment_facts(sys.executable, str(tmp_path))


# Lock files


def test_changed_lock_files(tmp_path):
    for name, text in (("a", "numpy==1"), ("b", "numpy==2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text(text)
        (tmp_path / name / "readme.txt").write_text(name)
    assert changed_locks(tmp_path / "a", tmp_path / "b") == ["requirements.txt"]
    (tmp_path / "b/requirements.txt").unlink()
    assert changed_locks(tmp_path / "a", tmp_path / "b") == ["requirements.txt"]
    assert changed_locks(tmp_path / "a", tmp_path / "a") == []


def test_opening_restores_the_working_directory_and_the_cache(suite, monkeypatch):
    here, cache = Path.cwd(), os.environ["CSPBENCH_CACHE"]
    with opened(parse("main~1", suite), suite, ()) as side:
        assert (Path.cwd(), os.environ["CSPBENCH_CACHE"]) == (here, cache)
        (case,) = side.cases
        assert case.id == '"darknet:models/smallcsp.cfg"@64/opencv-cpu/b1/t1'
        assert Path(case.artifact).is_absolute()
        assert case.analysis.totals["macs"] > 0
        assert side.facts["commit"] == side.request.value


def test_a_relative_pythonpath_leads_not_into_the_tree_of_a_commit(
    suite, repository, git, monkeypatch
):
    """The commit brings modules of our names, which would run wherever a worker imports them."""
    trap = repository / "onnx.py"
    trap.write_text(f"open({str(repository / 'ran')!r}, 'w').close()\n")
    git("add", "onnx.py")
    git("commit", "-q", "-m", "a trap")
    commit = git("rev-parse", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    monkeypatch.chdir(repository)
    here = os.path.relpath(Path(cspbench.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, "."]))
    seen, start = [], WorkerProcess.__init__

    def started(worker, *words, **more):
        seen.append((os.getcwd(), worker_environment(1)["PYTHONPATH"].split(os.pathsep)))
        start(worker, *words, **more)

    monkeypatch.setattr(WorkerProcess, "__init__", started)
    with opened(parse(commit, suite), suite, ()) as side:
        assert [case.status for case in side.cases] == [None]
    assert os.environ["PYTHONPATH"] == os.pathsep.join([here, "."])
    assert seen
    for folder, entries in seen:
        assert folder != str(repository)
        assert entries == [os.path.abspath(here), str(repository)]
    assert not (repository / "ran").exists()


def test_a_suite_that_the_ref_lacks(suite, repository):
    new = repository / "suites/new.yaml"
    new.write_text(suite.read_text())
    with (
        pytest.raises(InputError, match=r"the suite suites/new.yaml does not exist at main"),
        opened(parse("main", new), new, ()),
    ):
        pass
