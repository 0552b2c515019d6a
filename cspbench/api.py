"""The verbs of the public API that join several packages; the commands are thin over them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cspbench.core.files import RESULTS
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis
    from cspbench.gating.elsewhere import GateBoard
    from cspbench.gating.report import GateReport
    from cspbench.gating.sides import SideRequest
    from cspbench.runner.plan import Plan
    from cspbench.suite.suite import Suite
    from cspbench.views.compare import RunComparison
    from cspbench.views.frames import Run


def analyze(
    model: Any, example_input: Any = None, cache: bool = True, *, allow_code: bool = False
) -> Analysis:
    """Analyse a model without running it: what it computes, moves and holds, layer by layer.

    Args:
        model: a ``torch.nn.Module`` or an exported program, which stays as it is; or an id or the
            path of a model's file, which is read in a worker with bounds.
        example_input: of a module: a tensor, a shape such as ``(1, 3, 224, 224)`` (float32), a
            tuple of positional inputs, or a mapping of keyword inputs. An id has its size behind
            an @, or else its model's own.
        cache: whether an earlier analysis will do.
        allow_code: allow an id whose model runs code that is not cspbench's.

    Raises:
        InputError: not a model, no usable input, or a forward pass that cannot be followed (with
            the model's file and line).
    """
    if not isinstance(model, str | os.PathLike):
        from cspbench.analysis.api import analyze as analyze_module

        return analyze_module(model, example_input, cache)
    from cspbench.models.code import allowing_code
    from cspbench.runner.files import analyze_models

    if example_input is not None:
        raise InputError(f"{model}: write the size behind the model, such as @224 or @640x384")
    with allowing_code(allow_code):
        [analysis] = analyze_models([os.fsdecode(model)], cache=cache, allow_code=allow_code)
    return analysis


def plan(
    suite: str | Path | Mapping[str, object] | Suite,
    *,
    only: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
) -> Plan:
    """Say which cases of a suite this machine can run, and why not the others; nothing is run.

    Args:
        suite: a YAML file, the name of an installed suite, the sections of a suite as a mapping,
            or an expanded ``Suite``. A model (its file or its id) stands for itself with all
            backends of this machine's processor, one thread and all.
        only: patterns of case ids to keep (``*`` and ``?``); all cases without patterns.
        settings: settings of the suite's file to change, such as ``{"threads": 2}``.

    Raises:
        InputError: the suite has mistakes (all of them in ``problems``), there are several, or no
            case matches.
    """
    from cspbench.runner.plan import plan_suite
    from cspbench.suite.suite import Suite

    if not isinstance(suite, Suite):
        suite = _suite_of(suite, dict(settings or {}))
    elif settings:
        raise InputError("settings change the file of a suite; this suite is expanded already")
    return plan_suite(suite, only)


def _suite_of(named: str | Path | Mapping[str, object], settings: dict[str, object]) -> Suite:
    from cspbench.suite.adhoc import Choice, adhoc_suite
    from cspbench.suite.load import load_suite
    from cspbench.suite.targets import is_model

    if isinstance(named, Mapping):
        content = json.dumps(named, default=str).encode()  # JSON is YAML, too
        return replace(load_suite(Path("suite"), settings, content=content), path="")
    if is_model(os.fsdecode(named)):
        return adhoc_suite([named], Choice(), settings).suite
    return load_suite(suite_file(named), settings)


def run(
    suite: str | Path | Mapping[str, object] | Suite,
    results: str | Path = RESULTS,
    *,
    only: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    allow_code: bool = False,
) -> Run:
    """Measure a suite or a model on this machine and return the stored run.

    While another run measures on this machine this one waits, with a warning.

    Args:
        suite: as `plan` takes it.
        results: directory for run directories.
        only: patterns of case ids to measure; all cases without patterns.
        settings: settings of the suite's file to change.
        allow_code: allow models that run code which is not cspbench's.

    Raises:
        InputError: as `plan`, or the run cannot be written.
    """
    from cspbench.runner.executor import LocalExecutor
    from cspbench.runner.measure import RunTask, measure
    from cspbench.views.frames import load

    task = RunTask(plan(suite, only=only, settings=settings))
    executor = LocalExecutor(allow_code=allow_code)
    [path] = measure([task], Path(results), executor, waiting=warnings.warn)
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
    board: GateBoard | None = None,
) -> GateReport:
    """Say whether a suite or a model is slower on side ``head`` than on side ``base``.

    A side is ``set:key=value,...`` (the suite with other settings), ``env:PATH`` (another Python
    environment), a git ref of the repository that holds the suite, or a stored run.

    Args:
        suite: a YAML file or the name of an installed suite; or a model (its file or its id), which
            all backends of this machine's processor run with one thread.
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
        board: a board of a fleet that measures instead of this machine (`fleet.gate.BoardOfGate`).

    Returns:
        The verdicts with their raw data; ``exit_code`` is what the command would return.

    Raises:
        InputError: a mistake in the suite or in a side, or sides that cannot be compared.
    """
    from cspbench.gating.job import GateSettings, run_gate
    from cspbench.gating.sides import parse_side
    from cspbench.gating.stored import run_stored_gate

    file, content = gated_suite(suite)
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
        content=content,
    )
    if "run" in (base_side.kind, head_side.kind):
        if board is not None:
            raise InputError(
                "a stored run is compared with another one, or with this machine: leave out "
                "--scheduler, or name sides that the board can measure"
            )
        if content is not None:
            raise InputError(
                "a stored run is judged by a suite: write one with cspbench run MODEL --save-suite"
            )
        return run_stored_gate(file, base_side, head_side, settings, report)
    return run_gate(file, base_side, head_side, settings, report, board=board)


def gated_suite(named: str | Path) -> tuple[Path, bytes | None]:
    """The file of a suite; or where the suite of a model would lie, and its text.

    Raises:
        InputError: there is no such suite or model, or there are several suites.
    """
    from cspbench.models.build import as_model_id
    from cspbench.models.identity import source_files
    from cspbench.suite.adhoc import Choice, adhoc_suite
    from cspbench.suite.targets import is_model

    if not is_model(os.fsdecode(named)):
        return suite_file(named), None
    files = source_files(as_model_id(named))
    file = (files[0].parent if files else Path()) / "model.cspbench.yaml"
    made = adhoc_suite([named], Choice(threads=(1,)), file=file)
    return file, made.text.encode()


def _with_env(side: SideRequest, env: str | None) -> SideRequest:
    from cspbench.gating.sides import interpreter

    if env is None:
        return side
    if side.kind not in ("git", "set"):
        raise InputError(f"{side.text} has an environment already; give no other")
    return replace(side, python=interpreter(env))


def compare(
    base: str | Path | Run,
    head: str | Path | Run,
    results: str | Path = RESULTS,
    *,
    tolerance: float | None = None,
) -> RunComparison:
    """Put two stored runs beside each other: ratios with intervals, but no verdict.

    Separate runs are a poor way to find small changes: `gate` measures both sides in turn.

    Args:
        base: a run, its directory, its name under ``results``, or ``latest``.
        head: likewise; ratios are head / base.
        results: directory that holds the runs.
        tolerance: share within which a case counts as repeated (0.05 for 5 %).

    Raises:
        InputError: there is no such run.
    """
    from cspbench.store.rundir import find_run, read_run
    from cspbench.views.compare import compare_runs
    from cspbench.views.frames import Run

    before, after = (
        run.stored if isinstance(run, Run) else read_run(find_run(str(run), Path(results)))
        for run in (base, head)
    )
    return compare_runs(before, after, tolerance)


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
