"""Environments of two commits whose lock files differ: one virtual environment for each side.

Only what pip installs is built: ``requirements.txt`` (or ``requirements.lock``), with
``constraints.txt`` beside it. Environments are kept in the user's cache by what they were made of.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cspbench.core.files import cache_folder
from cspbench.errors import InputError
from cspbench.gating.sides import SideRequest
from cspbench.gating.worktree import changed_locks, repository_of, worktree

#: What pip installs, the first that exists; and what it only holds versions against.
REQUIREMENTS = ("requirements.lock", "requirements.txt")
CONSTRAINTS = "constraints.txt"
_PIP_SECONDS = 1800
#: A line that names files of the tree, or includes others: equal text is no equal environment.
_LOCAL = re.compile(r"^\s*(-[^-]|--(requirement|constraint|editable)|\.|/)|file:", re.MULTILINE)


def with_environments(
    suite: Path, base: SideRequest, head: SideRequest, tell: Callable[[str], None]
) -> tuple[SideRequest, SideRequest, list[str]]:
    """Give each side an environment of its own if their lock files differ.

    Args:
        suite: the suite's file in the working tree; the repository is the one that holds it.
        base: the side to compare with.
        head: the side to judge. One of them is a commit; the other may be the working tree.
        tell: is told what is built.

    Returns:
        The sides, with ``python`` set where one was built, and notes for the report.

    Raises:
        InputError: a lock file changed that pip does not read, or pip cannot install one.
    """
    repository = repository_of(suite)
    if repository is None or (base.python and head.python):
        return base, head, []
    with contextlib.ExitStack() as stack:
        trees = [
            stack.enter_context(worktree(repository, side.value))
            if side.kind == "git" else repository
            for side in (base, head)
        ]  # fmt: skip
        changed = changed_locks(*trees)
        if not changed:
            return base, head, []
        words = f"{', '.join(changed)} differ between {base.text} and {head.text}"
        _check_readable(words, changed, trees)
        sides = [
            side if side.python else replace(side, python=_environment(side, tree, tell))
            for side, tree in zip((base, head), trees, strict=True)
        ]
    note = f"{words}; each side ran in an environment of its own, made by pip"
    return sides[0], sides[1], [note]


def _check_readable(words: str, changed: Sequence[str], trees: Sequence[Path]) -> None:
    """Refuse what pip cannot install.

    Raises:
        InputError: another tool's lock file changed, or a tree has constraints only.
    """
    others = [name for name in changed if name not in (*REQUIREMENTS, CONSTRAINTS)]
    if not others and all(_requirements(tree) for tree in trees):
        return
    why = f"pip does not read {others[0]}" if others else f"a side has no {REQUIREMENTS[1]}"
    raise InputError(
        f"{words}, one environment cannot serve both, and {why}: "
        "give --base-env and --head-env, a virtual environment each"
    )


def _requirements(tree: Path) -> Path | None:
    return next((tree / name for name in REQUIREMENTS if (tree / name).is_file()), None)


def _environment(side: SideRequest, tree: Path, tell: Callable[[str], None]) -> str:
    """The interpreter of a side's environment, made if it is not in the cache."""
    from filelock import FileLock

    file = _requirements(tree)
    assert file is not None, "_check_readable has looked"
    key, lasting = _key(side, tree)
    folder = cache_folder().resolve() / "environments" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "complete"
    with FileLock(f"{folder}.lock"):
        if not (lasting and complete.exists()):
            tell(f"installing {file.name} of {side.text} into an environment of its own")
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted one left
            _install(side, tree, file, folder, python)
            complete.touch()
    return str(python)


def _key(side: SideRequest, tree: Path) -> tuple[str, bool]:
    """Hash of what an environment is made of, and whether it stays what it is.

    Of requirements that name files of their tree the commit is part; in a working tree those may
    change without notice, so that it is installed anew each time.
    """
    files = [name for name in (*REQUIREMENTS, CONSTRAINTS) if (tree / name).is_file()]
    texts = {name: (tree / name).read_text(encoding="utf-8", errors="replace") for name in files}
    facts: dict[str, object] = {"python": [sys.version, sys.base_prefix], "files": texts}
    local = any(_LOCAL.search(text) for text in texts.values())
    if local:
        facts["tree"] = side.value or str(tree)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return key, side.kind == "git" or not local


def _install(side: SideRequest, tree: Path, file: Path, folder: Path, python: Path) -> None:
    """Make the environment and let pip install into it.

    Raises:
        InputError: it cannot be made; the sentence ends in pip's own last error.
    """
    with_pip = importlib.util.find_spec("pip") is None
    command = [str(python), "-m", "pip"]
    if not with_pip:  # ours installs into the other: quicker than a pip for each
        command = [sys.executable, "-m", "pip", "--python", str(python)]
    constraints = ["-c", CONSTRAINTS] if (tree / CONSTRAINTS).is_file() else []
    command += ["--disable-pip-version-check", "install", "-q", "-r", file.name, *constraints]
    try:
        venv.EnvBuilder(symlinks=sys.platform != "win32", with_pip=with_pip).create(folder)
        done = subprocess.run(
            command, cwd=tree, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False,
        )  # fmt: skip
        said, failed = done.stderr, done.returncode != 0
    except (OSError, subprocess.SubprocessError) as error:
        said, failed = str(error), True
    if failed:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"{file.name} of {side.text} cannot be installed ({_last_error(said)}): it needs the "
            "network, or give --base-env and --head-env, a virtual environment each"
        )


def _last_error(said: str) -> str:
    """The line of pip's output that says what was wrong."""
    lines = [text.strip() for text in said.splitlines() if text.strip()]
    errors = [text for text in lines if text.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR:").strip()
