"""Environments of two commits; what pip installs is a wheel in the repository: no network."""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import cspbench
from cspbench.cli.main import main
from cspbench.errors import InputError
from cspbench.gating import job
from cspbench.gating.environments import (
    _key,
    _pip_reaches_others,
    _remove_left,
    changed_locks,
    with_environments,
)
from cspbench.gating.sides import (
    OpenSide,
    SideRequest,
    _only_cspbench,
    environment_facts,
    parse_side,
)
from cspbench.jobs.load import LoadRequest
from cspbench.runner.arms import ArmSpec, WorkerArm
from cspbench.suite.load import load_suite


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_REQUIRE_VIRTUALENV", raising=False)


@pytest.fixture
def suite(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository / "suites/gate.yaml"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """A folder from which numpy and OpenCV can be imported, and nothing else of this one."""
    import numpy

    folder, packages = tmp_path_factory.mktemp("libraries"), Path(numpy.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "cv2", "opencv_python_headless.libs"):
        if (packages / name).exists():
            (folder / name).symlink_to(packages / name)
    return folder


def wheel(folder, version, libraries):
    """A wheel of a package "runtime" that brings the libraries by a .pth file.

    It names its folder, so that no test's commit, nor the environment of it in the session's cache,
    is another's.
    """
    info = f"runtime-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: runtime\nVersion: {version}\nSummary: {folder}\n"
    files = {
        "runtime.py": f"version = {version!r}\n",
        "runtime.pth": f"{libraries}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"runtime-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{n},,\n" for n in files))
    return path.name


@pytest.fixture
def two_versions(repository, git, libraries):
    """Commits main~1 and main: the same model on version 1.0 and on 1.1 of what it runs on."""
    for version in ("1.0", "1.1"):
        name = wheel(repository, version, libraries)
        (repository / "requirements.txt").write_text(f"./{name}\n")
        git("add", ".")
        git("commit", "-q", "-m", f"runtime {version}")


def sides(suite, base, head):
    return [parse_side(text, suite, suite.parent / "results") for text in (base, head)]


def prepared(suite, base="main~1", head="main"):
    steps = []
    first, second, notes = with_environments(
        suite, *sides(suite, base, head), steps.append, allow_code=True
    )
    return first, second, notes, steps


def test_a_changed_lock_file_gives_each_side_its_environment(suite, two_versions):
    base, head, notes, steps = prepared(suite)
    assert len({base.python, head.python, sys.executable}) == 3
    site = "lib/python*/site-packages/runtime.py"
    versions = [next(Path(s.python).parents[1].glob(site)).read_text() for s in (base, head)]
    assert versions == ["version = '1.0'\n", "version = '1.1'\n"]
    (note,) = notes
    different = "requirements.txt differ between main~1 and main"
    assert note == f"{different}; each side ran in an environment that pip made for it"
    assert len(steps) == 2
    # The second gate finds both in the cache; the user's own environment stays.
    again = prepared(suite)
    assert (again[0].python, again[1].python, again[3]) == (base.python, head.python, [])
    with_own = replace(base, python=sys.executable)
    head = sides(suite, "main~1", "main")[1]
    first, second, [note] = with_environments(suite, with_own, head, steps.append, allow_code=True)
    assert (first.python, second.python) == (sys.executable, again[1].python)
    assert note == f"{different}; main alone ran in an environment that pip made for it"


@pytest.mark.parametrize(
    ("version", "reaches"), [("22.2.2", False), ("22.3", True), ("26.0.1", True), ("?", False)]
)
def test_an_old_pip_is_not_asked_to_install_elsewhere(version, reaches, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert _pip_reaches_others() is reaches


def test_a_gate_runs_real_workers_in_both_environments(
    suite, two_versions, monkeypatch, opencv_job
):
    opened = []

    @contextlib.contextmanager
    def without_cases(side, file, *_, **__):
        """Exports take long and are tested elsewhere."""
        facts = environment_facts(side.python, str(Path(cspbench.__file__).parents[1]))
        opened.append(OpenSide(side, load_suite(file), [], facts))
        yield opened[-1]

    monkeypatch.setattr(job, "opened", without_cases)
    with pytest.raises(InputError, match="no case is on both sides"):
        job.run_gate(suite, *sides(suite, "main~1", "main"), job.GateSettings(allow_code=True))
    assert len({side.facts["executable"] for side in opened} | {sys.executable}) == 3
    assert not any("torch" in side.facts["libraries"] for side in opened)
    with _only_cspbench() as path:
        spec = ArmSpec(
            "head", LoadRequest.from_json(opencv_job), python=opened[1].python, path=path
        )
        with contextlib.closing(WorkerArm(spec)) as arm:
            arm.start()
            assert arm.load().inference_ns > 0


def test_nothing_is_installed_without_leave_to_run_code(suite, repository, two_versions, capsys):
    """A pull request names a package, and its own folder, in a file that looks like data."""
    (repository / "setup.py").write_text("open('trace', 'w')\n")
    (repository / "requirements.txt").write_text("./\n")
    with pytest.raises(SystemExit) as end:
        main(["gate", "suites/gate.yaml", "--base", "git:main"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: requirements.txt differ between git:main and set:: pip would")
    assert "--allow-code" in line
    assert not (repository / "trace").exists()


def test_pip_is_not_taken_from_the_tree_that_it_installs(suite, repository, two_versions, tmp_path):
    for folder in (repository, *filter(Path.is_dir, repository.iterdir())):
        (folder / "pip").mkdir(exist_ok=True)
        (folder / "pip/__init__.py").touch()
        (folder / "pip/__main__.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    (repository / "requirements.txt").write_text("# none\n")
    *_, steps = prepared(suite, "main", "set:")
    assert steps
    assert not (tmp_path / "trace").exists()


def test_a_lock_file_that_is_a_pipe_is_none_and_not_waited_for(tmp_path):
    for side in ("base", "head"):
        (tmp_path / side).mkdir()
    os.mkfifo(tmp_path / "base" / "uv.lock")
    assert changed_locks(tmp_path / "base", tmp_path / "head") == []


def test_the_same_lock_file_needs_no_environment(suite):
    base, head, notes, _ = prepared(suite)
    assert (base.python, head.python, notes) == (None, None, [])


def test_the_working_tree_is_installed_anew_each_time(suite, repository, two_versions, libraries):
    (repository / "requirements.txt").write_text(f"./{wheel(repository, '1.2', libraries)}\n")
    first, second = (prepared(suite, "main", "set:") for _ in range(2))
    assert first[1].python == second[1].python
    assert [len(prepared_sides[3]) for prepared_sides in (first, second)] == [2, 1]


def test_what_pip_cannot_install_is_one_sentence(suite, repository, git):
    (repository / "requirements.txt").write_text("no-such-package==1\n")
    git("commit", "-q", "-am", "a pin")
    with pytest.raises(InputError) as error:
        prepared(suite, "main", "main~1")
    (sentence,) = error.value.problems
    assert sentence.startswith("pip cannot install requirements.txt of main (No matching dist")
    assert "--base-env and --head-env" in sentence


def test_lock_files_of_other_tools_are_refused(suite, repository, git):
    (repository / "uv.lock").write_text("version = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "uv")
    with pytest.raises(InputError, match=r"uv.lock differ .*pip does not read uv.lock"):
        prepared(suite)


def test_constraints_without_requirements_install_nothing(suite, repository, git):
    git("rm", "-q", "requirements.txt")
    git("commit", "-q", "-m", "no requirements")
    with pytest.raises(InputError, match=r"a side has no requirements.txt"):
        prepared(suite)


@pytest.mark.parametrize(
    ("line", "of_the_tree"),
    [
        ("numpy==2.4.6 ; python_version > '3.9'", False),
        ("opencv-python-headless[extra] >= 5  # engines", False),
        ("    --hash=sha256:0123", False),
        ("--index-url https://packages.example/simple", False),
        ("./runtime.whl", True),
        ("vendor/runtime", True),
        ("runtime-1.0-py3-none-any.whl", True),
        ("--find-links=wheels", True),
        ("-r more.txt", True),
        ("runtime @ file:wheels/runtime.whl", True),
    ],
)
def test_an_environment_of_files_of_a_tree_is_that_trees_own(tmp_path, line, of_the_tree):
    """Two commits with the same text: what the line names may be another file in each."""
    (tmp_path / "requirements.txt").write_text(f"# what the models need\n{line}\n")
    one, other = (_key(SideRequest(ref, "git", ref), tmp_path) for ref in ("1" * 40, "2" * 40))
    assert (one != other) is of_the_tree
    # The files of a working tree may change at any time.
    assert _key(SideRequest("set:", "set"), tmp_path)[1] is not of_the_tree


def test_what_an_ended_gate_built_for_itself_is_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = ["key", f"key-{ended.pid}", f"key-{os.getpid()}", f"other-{ended.pid}"]
    for name in names:
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / f"{name}.lock").touch()
    _remove_left(tmp_path, "key")
    left = [name for name in names if name != f"key-{ended.pid}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*left, *(f"{name}.lock" for name in left)]
    )
