"""Git: the repository that holds a suite, and a worktree of it at a commit."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cspbench.errors import InputError

#: Files that pin a model repository's environment.
LOCK_FILES = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "conda-lock.yml",
    "environment.yml", "requirements.txt", "requirements.lock", "constraints.txt",
)  # fmt: skip
_SECONDS = 120


def git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command in ``folder``; None if it fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def repository_of(path: Path) -> Path | None:
    """Top folder of the repository that holds ``path``; None if no repository holds it."""
    top = git(path.resolve().parent, "rev-parse", "--show-toplevel")
    return Path(top).resolve() if top else None


def commit_of(repository: Path, ref: str) -> str | None:
    """Full commit id that ``ref`` names; None if it names no commit."""
    # --end-of-options: a ref that begins with a dash is no option.
    return git(
        repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
    )


@contextlib.contextmanager
def worktree(repository: Path, commit: str) -> Iterator[Path]:
    """A temporary checkout of ``commit``, which is removed at the end.

    Raises:
        InputError: git cannot check it out.
    """
    folder = Path(tempfile.mkdtemp(prefix="cspbench-gate-"))
    path = folder / "tree"
    try:
        if git(repository, "worktree", "add", "--detach", "--force", str(path), commit) is None:
            raise InputError(f"git cannot check out {commit[:12]} of {repository}")
        yield path.resolve()
    finally:
        git(repository, "worktree", "remove", "--force", str(path))
        shutil.rmtree(folder, ignore_errors=True)
        git(repository, "worktree", "prune")


def changed_locks(base: Path, head: Path) -> list[str]:
    """Names of lock files at the top of two trees that differ, or that only one tree has."""

    def content(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None

    return [name for name in LOCK_FILES if content(base / name) != content(head / name)]
