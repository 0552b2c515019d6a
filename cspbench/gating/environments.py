"""Environments of two commits whose lock files differ: one virtual environment for each side.

Only pip's files are installed: ``requirements.txt`` (or ``requirements.lock``), with
``constraints.txt`` beside it. The user's cache keeps the environments, by the hash of these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import open_input
from cspbench.core.git import repository_of, tree_of
from cspbench.errors import InputError
from cspbench.gating.sides import SideRequest

#: Files that pin a model repository's environment.
LOCK_FILES = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "conda-lock.yml",
    "environment.yml", "requirements.txt", "requirements.lock", "constraints.txt",
)  # fmt: skip
#: pip installs the first of these that exists ...
REQUIREMENTS = ("requirements.lock", "requirements.txt")
#: ... and takes versions from this one.
CONSTRAINTS = "constraints.txt"
_PIP_SECONDS = 1800
#: A line that names no file of the tree: a comment, a name with its version, hashes, an index. Of
#: any other one equal text does not mean equal content.
_PLAIN = re.compile(
    r"\s*(#.*|(-i|--(hash|index-url|extra-index-url|pre)\b).*"
    r"|(?!\S*\.(whl|zip|gz|bz2|xz|tgz)\b)\w[\w.-]*\s*(\[[^\]]*\])?\s*([=<>!~;#\\].*)?)?"
)


def with_environments(
    suite: Path,
    base: SideRequest,
    head: SideRequest,
    report: Callable[[str], None],
    *,
    allow_code: bool = False,
) -> tuple[SideRequest, SideRequest, list[str]]:
    """Give each side an environment of its own if their lock files differ.

    Args:
        suite: the suite's file in the working tree of the repository.
        base: the side to compare with.
        head: the side to judge. One of the two is a commit; the other may be the working tree.
        report: gets a sentence for each environment that is built.
        allow_code: permit pip to install what the lock files name, which can run any code.

    Returns:
        The sides, with ``python`` set where an environment was built, and notes for the report.

    Raises:
        InputError: a lock file changed that pip does not read, pip cannot install one, or it is not
            permitted to.
    """
    repository = repository_of(suite)
    if repository is None or (base.python and head.python):
        return base, head, []
    with contextlib.ExitStack() as stack:
        trees = [
            stack.enter_context(tree_of(repository, side.value))
            if side.kind == "git" else repository
            for side in (base, head)
        ]  # fmt: skip
        changed = changed_locks(*trees)
        if not changed:
            return base, head, []
        difference = f"{', '.join(changed)} differ between {base.text} and {head.text}"
        _check_readable(difference, changed, trees)
        if not allow_code:
            raise InputError(
                f"{difference}: pip would install what they name, and a package can run any code. "
                "Read them, then add --allow-code, or give a virtual environment for each side "
                "with --base-env and --head-env"
            )
        sides = [
            side if side.python else replace(side, python=_environment(side, tree, report))
            for side, tree in zip((base, head), trees, strict=True)
        ]
    made = [side.text for side in (base, head) if not side.python]
    whose = "each side ran" if len(made) == 2 else f"{made[0]} alone ran"
    return sides[0], sides[1], [f"{difference}; {whose} in an environment that pip made for it"]


def changed_locks(base: Path, head: Path) -> list[str]:
    """Names of lock files at the top of two trees that differ, or that only one tree has."""

    def content(path: Path) -> bytes | None:
        try:
            with open_input(path) as file:
                return file.read()
        except OSError:
            return None

    return [name for name in LOCK_FILES if content(base / name) != content(head / name)]


def _check_readable(difference: str, changed: Sequence[str], trees: Sequence[Path]) -> None:
    """Refuse lock files that pip cannot install.

    Raises:
        InputError: another tool's lock file changed, or a tree has constraints only.
    """
    others = [name for name in changed if name not in (*REQUIREMENTS, CONSTRAINTS)]
    if not others and all(_requirements(tree) for tree in trees):
        return
    why = f"pip does not read {others[0]}" if others else f"a side has no {REQUIREMENTS[1]}"
    raise InputError(
        f"{difference}, so that one environment cannot serve both, and {why}: "
        "give a virtual environment for each with --base-env and --head-env"
    )


def _requirements(tree: Path) -> Path | None:
    return next((tree / name for name in REQUIREMENTS if (tree / name).is_file()), None)


def _environment(side: SideRequest, tree: Path, report: Callable[[str], None]) -> str:
    """The interpreter of a side's environment, which is built if it is not in the cache."""
    from filelock import FileLock

    file = _requirements(tree)
    assert file is not None, "_check_readable has checked"
    key, lasting = _key(side, tree)
    folder = cache_folder("environments", key).resolve()
    make_cache_folder(folder.parent)
    if not lasting:  # it is this gate's own: another one may use its own meanwhile
        _remove_left(folder.parent, key)
        folder = folder.with_name(f"{key}-{os.getpid()}")
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "complete"
    with FileLock(f"{folder}.lock"):
        if not (lasting and complete.exists()):
            report(f"installing {file.name} of {side.text} into an environment of its own")
            shutil.rmtree(folder, ignore_errors=True)  # an interrupted gate may have left one
            _install(side, tree, file, folder, python)
            complete.touch()
    return str(python)


def _remove_left(environments: Path, key: str) -> None:
    """Remove environments that gates which are no more had for themselves."""
    for folder in environments.glob(f"{key}-*[0-9]"):
        if not psutil.pid_exists(int(folder.name.removeprefix(f"{key}-"))):
            shutil.rmtree(folder, ignore_errors=True)
            Path(f"{folder}.lock").unlink(missing_ok=True)


def _key(side: SideRequest, tree: Path) -> tuple[str, bool]:
    """Hash of an environment's requirements, and whether the environment may be used again.

    If the requirements name files of their tree, the commit is part of the hash. In a working tree
    such files may change at any time, so that the environment is built anew for each gate.
    """
    files = [name for name in (*REQUIREMENTS, CONSTRAINTS) if (tree / name).is_file()]
    texts = {name: (tree / name).read_text(encoding="utf-8", errors="replace") for name in files}
    facts: dict[str, object] = {"python": [sys.version, sys.base_prefix], "files": texts}
    lines = [line for text in texts.values() for line in text.splitlines()]
    local = not all(_PLAIN.fullmatch(line) for line in lines)
    if local:
        facts["tree"] = side.value or str(tree)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return key, side.kind == "git" or not local


def _install(side: SideRequest, tree: Path, file: Path, folder: Path, python: Path) -> None:
    """Make the environment and let pip install into it.

    Raises:
        InputError: this failed; the message quotes pip's last error.
    """
    with_pip = not _pip_reaches_others()
    # -I: a folder named pip in the tree, in which pip works, is not imported.
    command = [str(python), "-I", "-m", "pip"]
    if not with_pip:  # our pip installs into the other environment: faster than a pip for each
        command = [sys.executable, "-I", "-m", "pip", "--python", str(python)]
    constraints = ["-c", CONSTRAINTS] if (tree / CONSTRAINTS).is_file() else []
    command += ["--disable-pip-version-check", "install", "-q", "-r", file.name, *constraints]
    try:
        venv.EnvBuilder(symlinks=sys.platform != "win32", with_pip=with_pip).create(folder)
        result = subprocess.run(
            command, cwd=tree, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False,
        )  # fmt: skip
        output, failed = result.stderr, result.returncode != 0
    except (OSError, subprocess.SubprocessError) as error:
        output, failed = str(error), True
    if failed:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"pip cannot install {file.name} of {side.text} ({_last_error(output)}): connect the "
            "machine to the network, or give a virtual environment for each side with --base-env "
            "and --head-env"
        )


def _pip_reaches_others() -> bool:
    """Whether our pip can install into another environment: ``--python`` came with 22.3."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (22, 3)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _last_error(output: str) -> str:
    """The line of pip's output that names the error."""
    lines = [text.strip() for text in output.splitlines() if text.strip()]
    errors = [text for text in lines if text.startswith("ERROR:")]
    return (errors or lines or ["pip printed no error"])[-1].removeprefix("ERROR:").strip()
