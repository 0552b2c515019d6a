"""The verbs of the public API that join several packages; the commands are thin over them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cspbench.core.files import RESULTS
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.gating.report import GateReport
    from cspbench.gating.sides import SideRequest
    from cspbench.runner.plan import Plan
    from cspbench.suite.suite import Suite
    from cspbench.views.compare import RunComparison
    from cspbench.views.frames import Run


def plan(
    suite: str | Path | Suite,
    *,
    only: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
) -> Plan:
    """Say which cases of a suite this machine can run, and why not the others; nothing is run.

    Args:
        suite: a YAML file, the name of an installed suite, or an expanded ``Suite``.
        only: patterns of case ids to keep (``*`` and ``?``); all cases without patterns.
        settings: settings of the suite's file to change, such as ``{"threads": 2}``.

    Raises:
        InputError: the suite has mistakes (all of them in ``problems``), there are several, or no
            case matches.
    """
    from cspbench.runner.plan import plan_suite
    from cspbench.suite.load import load_suite
    from cspbench.suite.suite import Suite

    if not isinstance(suite, Suite):
        suite = load_suite(suite_file(suite), dict(settings or {}))
    elif settings:
        raise InputError("settings change the file of a suite; this suite is expanded already")
    return plan_suite(suite, only)


def run(
    suite: str | Path | Suite,
    results: str | Path = RESULTS,
    *,
    only: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
) -> Run:
    """Measure a suite on this machine and return the stored run.

    While another run measures on this machine this one waits, with a warning.

    Args:
        suite: a YAML file, the name of an installed suite, or an expanded ``Suite``.
        results: directory for run directories.
        only: patterns of case ids to measure; all cases without patterns.
        settings: settings of the suite's file to change.

    Raises:
        InputError: as `plan`, or the run cannot be written.
    """
    from cspbench.runner.measure import RunTask, measure
    from cspbench.views.frames import load

    task = RunTask(plan(suite, only=only, settings=settings))
    [path] = measure([task], Path(results), waiting=warnings.warn)
    return load(path)


def gate(
    suite: str | Path,
    base: str,
    head: str = "set:",
    *,
    base_env: str | None = None,
    head_env: str | None = None,
    only: Sequence[str] = (),
    strict: bool = False,
    static: bool = True,
    keep_going: bool = False,
    measure_identical: bool = False,
    allow_code: bool = False,
    rules: Literal["base", "head"] = "base",
    results: str | Path = RESULTS,
    report: Callable[[str], None] = lambda _text: None,
) -> GateReport:
    """Say whether the cases of a suite are slower on side ``head`` than on side ``base``.

    A side is ``set:key=value,...`` (the suite with other settings), ``env:PATH`` (another Python
    environment), a git ref of the repository that holds the suite, or a stored run.

    Args:
        suite: a YAML file or the name of an installed suite.
        base: the side to compare with.
        head: the side to judge; the suite as it is by default.
        base_env: Python environment of the base's workers.
        head_env: Python environment of the head's workers.
        only: patterns of case ids to judge; all cases without patterns.
        strict: an inconclusive case counts in the exit code.
        static: static changes may block the timing.
        keep_going: time the other cases although a static change blocks one.
        measure_identical: time cases that run the same bytes on both sides, too.
        allow_code: allow models that run code which is not cspbench's.
        rules: side whose suite decides what is judged and how.
        results: directory that holds the stored runs.
        report: gets a sentence for each step.

    Returns:
        The verdicts with their raw data; ``exit_code`` is what the command would return.

    Raises:
        InputError: a mistake in the suite or in a side, or sides that cannot be compared.
    """
    from cspbench.gating.job import GateSettings, run_gate
    from cspbench.gating.sides import parse_side
    from cspbench.gating.stored import run_stored_gate

    file = suite_file(suite)
    base_side, head_side = (
        _with_env(parse_side(text, file, Path(results)), env)
        for text, env in ((base, base_env), (head, head_env))
    )
    settings = GateSettings(
        strict=strict,
        static=static,
        keep_going=keep_going,
        measure_identical=measure_identical,
        only=only,
        allow_code=allow_code,
        results=Path(results),
        rules=rules,
    )
    if "run" in (base_side.kind, head_side.kind):
        return run_stored_gate(file, base_side, head_side, settings, report)
    return run_gate(file, base_side, head_side, settings, report)


def _with_env(side: SideRequest, env: str | None) -> SideRequest:
    from cspbench.gating.sides import interpreter

    if env is None:
        return side
    if side.kind not in ("git", "set"):
        raise InputError(f"{side.text} has an environment already; give no other")
    return replace(side, python=interpreter(env))


def compare(
    base: str | Path | Run, head: str | Path | Run, results: str | Path = RESULTS
) -> RunComparison:
    """Put two stored runs beside each other: ratios with intervals, but no verdict.

    Separate runs are a poor way to find small changes: `gate` measures both sides in turn.

    Args:
        base: a run, its directory, its name under ``results``, or ``latest``.
        head: likewise; ratios are head / base.
        results: directory that holds the runs.

    Raises:
        InputError: there is no such run.
    """
    from cspbench.store.rundir import find_run, read_run
    from cspbench.views.compare import compare_runs
    from cspbench.views.frames import Run

    return compare_runs(
        *(
            run.stored if isinstance(run, Run) else read_run(find_run(str(run), Path(results)))
            for run in (base, head)
        )
    )


def suite_file(name: str | Path) -> Path:
    """The file of the one suite that ``name`` means.

    Raises:
        InputError: there is no such suite, or there are several.
    """
    from cspbench.suite.find import find_suites

    files = find_suites(str(name))
    if len(files) > 1:
        raise InputError(
            f"{name} holds {len(files)} suites, name one: {', '.join(map(str, files))}"
        )
    return files[0]
