"""The two sides of a gate: from the user's text to cases that are ready to be measured.

A side is ``set:key=value,...`` (the suite with other settings), ``env:PATH`` (another Python
environment), a git ref of the repository that holds the suite, or a stored run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cspbench
from cspbench.backends.spec import libraries
from cspbench.core.cache import cache_folder
from cspbench.core.git import commit_of, has_file, repository_of, tree_of
from cspbench.errors import InputError
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.jobs.facts import FactsRequest
from cspbench.jobs.spec import to_plain
from cspbench.machine.facts import library_versions
from cspbench.models.code import allowing_code
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.runner.process import NEUTRAL_FOLDER, WorkerProcess, absolute_path
from cspbench.store.rundir import StoredRun, find_run, list_runs, read_run
from cspbench.suite.load import load_suite, read_suite
from cspbench.suite.suite import Suite

Kind = Literal["set", "env", "git", "run"]
_FACTS_TIMEOUT_SECONDS = 60.0
#: Variables of ours whose relative paths are meant from where the command was given.
_MEANT_HERE = ("CSPBENCH_CACHE", "PYTHONPATH")


@dataclass(frozen=True)
class SideRequest:
    """A side as the user wrote it: its kind and value, with a git ref resolved to a commit.

    ``python`` is the interpreter of the side's own environment, if it has one.
    """

    text: str
    kind: Kind
    value: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    python: str | None = None

    @property
    def axes(self) -> frozenset[str]:
        """Names of the settings that the side changes."""
        return frozenset(name for name, _ in self.settings)


@dataclass
class OpenSide:
    """A side whose files are available: its suite and prepared cases.

    ``suite`` decides what is measured on it, and ``own`` is the suite that its own file holds (None
    if it has no such file). ``content`` is the text of ``suite``. ``facts`` describe the side in
    reports. Its workers run ``python`` and import cspbench from ``path``.
    """

    request: SideRequest
    suite: Suite
    cases: list[Prepared]
    facts: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    own: Suite | None = None
    content: bytes = b""

    @property
    def python(self) -> str | None:
        """Interpreter of the side's workers; None for the one that runs the gate."""
        return self.request.python


def parse_side(text: str, suite: Path, results: Path) -> SideRequest:
    """Parse a side.

    Args:
        text: the user's text.
        suite: the suite's file.
        results: folder of the stored runs.

    Raises:
        InputError: the text is none of the four kinds, or names something that does not exist.
    """
    prefix, _, value = text.partition(":")
    if prefix == "set" and ":" in text:
        return SideRequest(text, "set", settings=_settings(text, value))
    if prefix == "env" and ":" in text:
        return SideRequest(text, "env", value, python=interpreter(value))
    kind = prefix if prefix in ("git", "run") and ":" in text else ""
    name = value if kind else text
    repository = repository_of(suite)
    commit = commit_of(repository, name) if repository and kind != "run" else None
    run = _run_of(name, results) if kind != "git" else None
    if commit is not None and run is not None:
        raise InputError(f"{text!r} is a git ref and a stored run: write git:{text} or run:{text}")
    if commit is not None:
        return SideRequest(text, "git", commit)
    if run is not None:
        return SideRequest(text, "run", str(run))
    runs = ", ".join(run.name for run in list_runs(results)[-3:]) or "none"
    where = (
        f"{repository} has no such commit"
        if repository
        else f"{suite} is in no git repository that git trusts"
    )
    raise InputError(
        f"{text!r} is no side of a gate: write set:key=value,..., env:PATH, a git ref ({where}) "
        f"or a stored run (newest under {results}: {runs}); git: or run: before a name says which"
    )


def _run_of(name: str, results: Path) -> Path | None:
    try:
        return find_run(name, results)
    except InputError:
        return None


def _settings(text: str, value: str) -> tuple[tuple[str, str], ...]:
    """``engine=new,threads=2``; a comma inside brackets belongs to the value."""
    if not value.strip():
        return ()
    parts, depth = [""], 0
    for char in value:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    settings = {}
    for part in parts:
        key, equals, setting = (piece.strip() for piece in part.partition("="))
        if not key or not equals:
            raise InputError(f"{text}: write set:key=value,key=value, such as set:engine=classic")
        if key in settings:
            raise InputError(f"{text} sets {key} twice: set it once")
        settings[key] = setting
    return tuple(settings.items())


def interpreter(value: str) -> str:
    """Python of ``env:PATH``, where PATH is an interpreter or the folder of a virtual environment.

    Raises:
        InputError: there is no such interpreter.
    """
    path = Path(value).expanduser()
    if path.is_dir():
        path = next((p for p in (path / "bin/python", path / "Scripts/python.exe") if p.exists()),
                    path)  # fmt: skip
    if not value or path.is_dir() or not os.access(path, os.X_OK):
        raise InputError(
            f"env:{value} names no Python interpreter and no virtual environment: give the path of "
            "one"
        )
    return str(path.absolute())  # the target of a link would be another environment


@contextlib.contextmanager
def opened(
    request: SideRequest,
    suite: Path,
    only: Sequence[str],
    *,
    beside_git: bool = False,
    allow_code: bool = False,
    content: bytes | None = None,
    elsewhere: bool = False,
) -> Iterator[OpenSide]:
    """Check out the side, prepare its cases, and clean up at the end.

    Args:
        request: the side; not a stored run.
        suite: the suite's file in the working tree.
        only: patterns of case ids.
        beside_git: the other side is a commit, so that this one's paths begin at the same place of
            the repository.
        allow_code: permit code that a model brings.
        content: the suite's text if another side's suite decides. Its paths lead into this side's
            files, and this side's own file is read to be compared with it.
        elsewhere: another machine measures, so that what is unavailable here may be available.

    Raises:
        InputError: the suite does not exist on this side or has errors, or the environment cannot
            run a worker.
    """
    with contextlib.ExitStack() as stack:
        repository = repository_of(suite) if request.kind == "git" or beside_git else None
        folder, file, cache = Path.cwd(), suite.resolve(), None
        facts: dict[str, Any] = {"kind": request.kind, "python": None}
        if request.kind == "git":
            assert repository is not None, "parse_side found it"
            cache = cache_folder("gate", request.value).resolve()
            # What was read while an artifact was built is known by the folder: a later gate has it.
            tree = stack.enter_context(tree_of(repository, request.value, cache / "tree"))
            file, folder = tree / _place(suite, repository), _inside(tree, repository)
            facts["commit"] = request.value
            if content is None and not file.is_file():
                raise InputError(
                    f"the suite {file.relative_to(tree)} does not exist at {request.text}, so that "
                    "nothing there says what is judged: name another suite, or judge both sides by "
                    "the suite of the side that has it (--rules base or --rules head)"
                )
        elif beside_git:
            assert repository is not None, "the other side is of this repository"
            folder = _inside(repository, repository)
        path = stack.enter_context(_only_cspbench()) if request.python else None
        if request.python:
            facts |= environment_facts(request.python, path)
        else:
            facts["libraries"] = library_versions(libraries())
        with _working_in(folder, cache), allowing_code(allow_code):
            own, loaded, content = _suites(Path(os.path.relpath(file)), request, content)
            plan = plan_suite(loaded, only)
            executor = LocalExecutor(allow_code=allow_code)
            cases = prepare_cases(plan, executor, elsewhere=elsewhere or request.python is not None)
        yield OpenSide(request, loaded, cases, facts, path, own, content)


def _suites(
    file: Path, request: SideRequest, content: bytes | None
) -> tuple[Suite | None, Suite, bytes]:
    """The side's own suite, the suite that decides, and the text of the latter."""
    settings = dict(request.settings)
    text = read_suite(file) if content is None or file.is_file() else None
    own = None if text is None else load_suite(file, settings, content=text)
    if content is None or content == text:
        assert own is not None
        assert text is not None
        return own, own, text
    try:
        return own, load_suite(file, settings, content=content), content
    except InputError as error:
        hint = (
            f"the suite of the other side decides, and the files of {request.text} do not fit it: "
            "if that is intended, let the other suite decide (--rules head, --rules base)"
        )
        problems = [f"at {request.text}: {problem}" for problem in error.problems]
        raise InputError([*problems, hint]) from error


def has_suite(request: SideRequest, suite: Path) -> bool:
    """Whether the suite's file exists on a side."""
    repository = repository_of(suite)
    if request.kind != "git" or repository is None:
        return suite.is_file()
    return has_file(repository, request.value, _place(suite, repository))


def _place(suite: Path, repository: Path) -> PurePosixPath:
    """The suite's path in its repository, as the user named it.

    The working tree's links are not followed: they may be the head's, and lead to another suite.
    """
    named = Path(os.path.abspath(suite))  # resolve() would follow links
    if not named.is_relative_to(repository):
        named = suite.resolve()
    return PurePosixPath(named.relative_to(repository).as_posix())


def _inside(tree: Path, repository: Path) -> Path:
    """The working directory's place in ``tree``; the top if it is outside of the repository."""
    here = Path.cwd().resolve()
    inside = tree / here.relative_to(repository) if here.is_relative_to(repository) else tree
    return inside if inside.is_dir() else tree


@contextlib.contextmanager
def _working_in(folder: Path, cache: Path | None) -> Iterator[None]:
    """Use the relative paths, the user's modules and the cache of one side.

    What our own interpreters import stays where it was: a relative entry of PYTHONPATH would lead
    into the side's tree, whose code the user did not permit.
    """
    here, before = Path.cwd(), {name: os.environ.get(name) for name in _MEANT_HERE}
    if before["PYTHONPATH"]:
        os.environ["PYTHONPATH"] = absolute_path(before["PYTHONPATH"])
    if cache is not None:
        os.environ["CSPBENCH_CACHE"] = str(cache)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _only_cspbench() -> Iterator[str]:
    """A folder from which another interpreter imports this cspbench and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="cspbench-gate-"))
    try:
        (folder / "cspbench").symlink_to(Path(cspbench.__file__).resolve().parent)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment_facts(python: str, path: str | None) -> dict[str, Any]:
    """Versions in another environment, as a worker that runs in it reports them.

    Raises:
        InputError: no worker runs there; the message ends with the last line of its output.
    """
    worker = WorkerProcess(python=python, path=path, folder=NEUTRAL_FOLDER)
    try:
        outcome = worker.ask(FactsRequest().to_json(), _FACTS_TIMEOUT_SECONDS)
    finally:
        worker.close()
    facts = outcome.checked(FactsRequest.job)
    if facts is not None:
        return to_plain(facts)
    last = (outcome.log.strip().splitlines() or [outcome.reason])[-1]
    raise InputError(f"{python} cannot run a worker of cspbench: {last}")


def stored_side(request: SideRequest) -> StoredRun:
    """The run that a side of kind "run" names."""
    return read_run(Path(request.value))
