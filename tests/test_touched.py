"""Which tests ``make check`` runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.touched import changed_files, related_tests


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of two packages with a test each, and a page that a test names."""
    texts = {
        "tests/test_pages.py": 'PAGE = "README.md"\n',
        "tests/suite/test_load.py": "from cspbench.suite.load import load_suite\n",
        "tests/store/test_fsck.py": "from cspbench.store import fsck, rundir\n",
        "tests/store/runs.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("cspbench/suite/load.py", ["tests/suite/test_load.py"]),
        ("cspbench/suite/load_all.py", ["tests/suite"]),  # no test names it: all of its package
        ("cspbench/store/rundir.py", ["tests/store/test_fsck.py"]),
        ("cspbench/store/__init__.py", ["tests/store/test_fsck.py"]),
        ("cspbench/nothing/here.py", []),
        ("tests/suite/test_load.py", ["tests/suite/test_load.py"]),
        ("tests/store/runs.py", ["tests/store"]),
        ("README.md", ["tests/test_pages.py"]),
        ("docs/gate.md", ["tests/test_docs.py"]),
        ("Makefile", []),
    ],
)
def test_a_changed_file_calls_for_the_tests_that_name_it(
    project: Path, changed: str, tests: list[str]
) -> None:
    assert related_tests([changed], project) == tests


def test_changes_are_those_of_the_branch_and_of_the_working_tree(project: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)

    def commit(name: str) -> None:
        (project / name).write_text("changed\n")
        git("add", "--all")
        git("commit", "--quiet", "--message", name)

    git("init", "--quiet", "--initial-branch", "main")
    commit("before")
    git("branch", "topic")
    commit("on-main")  # after the branch began: not a change of the branch
    git("checkout", "--quiet", "topic")
    commit("on-topic")
    (project / "before").write_text("not committed\n")
    (project / "new").write_text("not known to git\n")
    assert changed_files("main", project) == ["before", "new", "on-topic"]
    assert changed_files("no-such-branch", project) == ["before", "new"]
