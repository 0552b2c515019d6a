"""Git in a stranger's folder: names of commits and their files, and no program of the stranger's.

Every attack is first made on plain git, which obeys it: so each test shows that it could fail.
"""

import os
import subprocess
from pathlib import Path

import pytest

from cspbench.core.git import commit_of, repository_of, tree_of
from cspbench.errors import InputError
from cspbench.machine.facts import fingerprint


@pytest.fixture
def git(tmp_path):
    """Run plain git in the repository ``tmp_path/repository``."""
    folder = tmp_path / "repository"
    folder.mkdir()

    def run(*words, folder=folder):
        names = ("-c", "user.name=t", "-c", "user.email=t@t")
        done = subprocess.run(["git", "-C", str(folder), *names, *words], capture_output=True,
                              text=True, check=False)  # fmt: skip
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    (folder / "a.txt").write_text("one\n")
    run("add", "-A")
    run("commit", "-qm", "first")
    run.folder = folder
    return run


def program(path, trace):
    """A program that leaves a trace when it runs, and passes on what it is given."""
    path.write_text(f"#!/bin/sh\ntouch {trace}\ncat\n")
    path.chmod(0o755)
    return path


def test_a_commit_by_its_names(git):
    first = git("rev-parse", "HEAD")
    assert commit_of(git.folder) == commit_of(git.folder, "main") == first
    assert commit_of(git.folder, "nowhere") is None
    assert commit_of(git.folder, "--exec=x") is None  # no option either
    assert repository_of(git.folder / "a.txt") == git.folder.resolve()
    assert repository_of(Path("/")) is None


def test_a_folder_that_is_a_git_directory_is_no_repository(git, tmp_path):
    """Files of a pull request: HEAD, config and objects lie in ``suites/`` like any other file."""
    trace, suites = tmp_path / "trace", git.folder / "suites"
    git("clone", "-q", "--bare", str(git.folder), str(suites), folder=tmp_path)
    monitor = program(tmp_path / "monitor", trace)
    (suites / "config").write_text(
        f"[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\nfsmonitor = {monitor}\n"
    )
    git("read-tree", "HEAD", folder=suites)
    git("describe", "--always", "--dirty", folder=suites)
    assert trace.exists(), "plain git runs the monitor"
    trace.unlink()
    environment = fingerprint((), suites)
    # The repository around it is the one that counts, or none.
    assert environment["git_commit"] in (None, git("rev-parse", "HEAD"))
    assert repository_of(suites / "gate.yaml") in (None, git.folder.resolve())
    assert not trace.exists()


def test_monitors_hooks_and_filters_of_a_given_repository_do_not_run(git, tmp_path):
    trace = tmp_path / "trace"
    code = program(tmp_path / "code", trace)
    (git.folder / ".gitattributes").write_text("* filter=evil\n")
    git("add", "-A")
    git("commit", "-qm", "attributes")
    for setting in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.clean"):
        git("config", setting, str(code))
    hook = git.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    program(hook, trace)
    commit = git("rev-parse", "main")
    trace.unlink(missing_ok=True)
    git("worktree", "add", "--detach", str(tmp_path / "checkout"), commit)
    assert trace.exists(), "plain git runs them"
    trace.unlink()
    with tree_of(git.folder, commit) as tree:
        assert (tree / "a.txt").read_text() == "one\n"
    assert commit_of(git.folder, "main") == commit
    assert not trace.exists()


def test_a_tree_is_the_commit_and_goes_away(git):
    names = ["run.sh", "sub/with space", "ümlaut", "two\nlines"]
    for name in names:
        path = git.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() + b"\0\n")
    (git.folder / "run.sh").chmod(0o755)
    (git.folder / "inside").symlink_to("sub/with space")
    (git.folder / "outside").symlink_to("/etc/passwd")
    (git.folder / "sub/up").symlink_to("../../elsewhere")
    git("add", "-A")
    git("commit", "-qm", "names")
    (git.folder / "a.txt").write_text("changed, not committed")
    with tree_of(git.folder, git("rev-parse", "HEAD")) as tree:
        assert (tree / "a.txt").read_text() == "one\n"
        assert all((tree / name).read_bytes() == name.encode() + b"\0\n" for name in names)
        assert os.access(tree / "run.sh", os.X_OK)
        assert (tree / "inside").read_bytes() == b"sub/with space\0\n"
        assert not (tree / "outside").is_symlink()  # it leads out of the tree
        assert not (tree / "sub/up").is_symlink()
        assert not (tree / ".git").exists()
    assert not tree.exists()


def test_a_tree_lies_at_its_place_unless_another_one_does(git, tmp_path):
    commit, place = git("rev-parse", "main"), tmp_path / "cache/tree"
    (place / "of a gate that was killed").mkdir(parents=True)
    with tree_of(git.folder, commit, place) as first, tree_of(git.folder, commit, place) as second:
        assert first == place != second
        assert [one.name for one in place.iterdir()] == ["a.txt"]
        assert (second / "a.txt").read_text() == "one\n"
    assert not first.exists()
    assert not second.exists()
    with tree_of(git.folder, commit, place) as again:
        assert again == place


def test_a_commit_that_is_not_there_is_one_sentence(git):
    with (
        pytest.raises(InputError, match="git cannot read 012345678901 of "),
        tree_of(git.folder, "0123456789" * 4),
    ):
        pass
