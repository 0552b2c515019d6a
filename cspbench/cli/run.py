"""``cspbench run``: plan, measure, store, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.fleet_options import (
    cluster_option,
    fleet_of,
    insecure_option,
    scheduler_option,
)
from cspbench.cli.measuring import RunResult, check_suites, stoppable, suites_of
from cspbench.cli.model_arguments import model_options
from cspbench.cli.options import (
    allow_code_option,
    folder_was_out,
    format_option,
    memory_limit_option,
    no_wait_option,
    only_option,
    reports_option,
    results_option,
    set_option,
)
from cspbench.cli.reporter import Reporter, reporter_options
from cspbench.core.output import say, show
from cspbench.core.statuses import ExitCode, Status, exit_code_for
from cspbench.errors import InputError, noting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cspbench.cli.model_arguments import ModelArguments
    from cspbench.cli.progress import Display
    from cspbench.runner.measure import RunTask
    from cspbench.views.answer import Answer
    from cspbench.views.frames import Run


@click.command()
@click.argument("suites", nargs=-1, metavar="[MODEL|SUITE]...")
@model_options
@results_option
@reports_option
@click.option(
    "--no-report", is_flag=True, help="Write no report: cspbench report RUN writes it any time."
)
@only_option
@click.option("--rounds", type=click.IntRange(1, 1000), help="Launches a case.")
@click.option("--resume", metavar="RUN", help="Measure what is missing in a stored run.")
@click.option(
    "--force", is_flag=True, help="Resume although the machine or a version of a library changed."
)
@set_option
@memory_limit_option
@allow_code_option
@no_wait_option
@scheduler_option
@cluster_option
@insecure_option
@reporter_options
@format_option
@folder_was_out("results")
def command(
    suites: tuple[str, ...],
    results: Path,
    reports: Path,
    no_report: bool,
    only: tuple[str, ...],
    rounds: int | None,
    resume: str | None,
    force: bool,
    overrides: tuple[str, ...],
    memory_limit: int | None,
    allow_code: bool,
    no_wait: bool,
    scheduler: str | None,
    cluster: Path | None,
    insecure: bool,
    form: str,
    reporter: Reporter,
    arguments: ModelArguments,
) -> int:
    """Measure MODELs, or every case of SUITEs, on this machine; store the run, write the report.

    A MODEL is a file (model.onnx, net.cfg, program.pt2, net.py:factory) or an id
    (timm:resnet50@224). It is measured with each backend and number of threads, and the answer at
    the end says which is fastest. --save-suite writes the suite that was run.

    A SUITE is a YAML file, the name of an installed suite, or a directory with suites.

    With --scheduler or --cluster the boards of a fleet measure instead.
    """
    from cspbench.runner.executor import LocalExecutor

    settings = (*overrides, *([f"measure.rounds={rounds}"] if rounds else []))
    if resume is not None and (only or settings):
        raise InputError(
            "--resume goes on with what the run planned: leave out --only, --set and --rounds"
        )
    if force and resume is None:
        raise InputError("--force is for --resume: name the run to go on with")
    local = LocalExecutor(memory_limit, allow_code=allow_code)
    if scheduler is not None or cluster is not None:
        from cspbench.cli.fleet_run import fleet_tasks, measure_on_fleet

        if resume is not None:
            _refuse_models(arguments)
        with fleet_of(scheduler, cluster, reporter.report, insecure=insecure) as client:
            fleet = fleet_tasks(
                client, suites, only, settings, results, resume, arguments, force=force
            )
            result = _measured(
                reporter, lambda display: measure_on_fleet(client, fleet, results, local, display)
            )
    else:
        from cspbench.runner.measure import measure

        tasks = _tasks(suites, only, settings, results, resume, arguments, force=force)
        result = _measured(
            reporter,
            lambda display: measure(
                tasks, results, local, display, wait=not no_wait, waiting=reporter.report
            ),
        )
    return _end(result, None if no_report else reports, form, reporter)


def _tasks(
    suites: Sequence[str], only: Sequence[str], settings: Sequence[str], results: Path,
    resume: str | None, arguments: ModelArguments, *, force: bool,
) -> list[RunTask]:  # fmt: skip
    """The runs to measure on this machine: of every suite, or what is missing of a stored one."""
    from cspbench.api import plan
    from cspbench.runner.measure import RunTask
    from cspbench.runner.run import resumable
    from cspbench.store.rundir import find_run

    if resume is None:
        named = suites_of(suites, settings, arguments)
        return [RunTask(plan(suite, only=only)) for suite in named]
    _refuse_models(arguments)
    planned, stored = resumable(find_run(resume, results), force=force)
    check_suites(suites, planned, stored)
    return [RunTask(planned, stored)]


def _refuse_models(arguments: ModelArguments) -> None:
    if arguments.given:
        raise InputError("--resume goes on with what the run planned: leave out options of models")


def _measured(reporter: Reporter, start: Callable[[Display], Iterator[Path]]) -> RunResult:
    """Measure, and note every run that was begun, whatever stops it."""
    result = RunResult()
    with stoppable(reporter, result) as display:
        result.paths.extend(start(display))
    return result


def _end(result: RunResult, reports: Path | None, form: str, reporter: Reporter) -> ExitCode:
    """Show what was measured; what stopped us decides the exit code, whatever can be shown."""
    stopped = result.stopped
    if not result.paths:
        return ExitCode.OK if stopped is None else stopped
    kept = ", ".join(map(str, result.paths))
    try:
        with noting(f"what was measured is kept in {kept}"):
            measured = _finish(result.paths, reports, form, reporter)
    except InputError as error:
        if stopped is None:
            raise
        say(f"error: {error}", err=True)
        return stopped
    return measured if stopped is None else stopped


def _finish(paths: Sequence[Path], reports: Path | None, form: str, reporter: Reporter) -> ExitCode:
    """Print the tables and write the report of what exists, if one is wanted."""
    from cspbench.views.frames import load

    runs = [load(path) for path in paths]
    report = None if reports is None else _report(runs, reports / f"{paths[-1].name}.html")
    code = exit_code_for(record.status for run in runs for record in run.records)
    empty = [run for run in runs if all(record.status != Status.OK for record in run.records)]
    if code == ExitCode.OK and any(not run.stored.meta["suite"]["path"] for run in empty):
        code = ExitCode.NOT_MEASURED  # a model was named, and nothing runs it
    reporter.event("finished", runs=[str(path) for path in paths], report=report, code=int(code))
    if form == "json":
        show(json.dumps(summary(runs, report), allow_nan=False))
    else:
        print_runs(runs, form)
        say("")
        for sentence in _answer(runs) if form == "table" else ():
            say(sentence)
        for line in _forms(runs) if form == "table" else ():
            say(line)
        for sentence in _verdicts(runs) if form == "table" else ():
            say(sentence)
        for run in runs:
            say(f"run     {run.path}")
        if report is not None:
            say(f"report  {report}")
    for run in empty:
        say(_nothing(run), err=True)
    return code


def _nothing(run: Run) -> str:
    """That a run measured nothing, and why."""
    reasons = list(dict.fromkeys(
        f"{record.status}: {record.reason}" for record in run.records if record.reason
    ))  # fmt: skip
    more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    return f"nothing was measured in {run.name}: {'; '.join(reasons[:3])}{more}"


def _answer(runs: Sequence[Run]) -> Iterator[str]:
    """What is fastest, for each model of the runs that are of models."""
    from cspbench.views.answer import sentences

    for answer in _answers(runs):
        yield from (*sentences(answer), "")


def _verdicts(runs: Sequence[Run]) -> Iterator[str]:
    """What is fastest of all, for each run of a suite."""
    from cspbench.views.answer import verdict

    found = [verdict(run) for run in runs if run.stored.meta["suite"]["path"]]
    yield from (sentence for sentence in found if sentence)


def _forms(runs: Sequence[Run]) -> Iterator[str]:
    """What cross-stage-partial forms cost beside the plain network, of runs that are of models."""
    from cspbench.views.csp_forms import form_text

    for run in runs:
        if not run.stored.meta["suite"]["path"]:
            yield from form_text(run)


def _answers(runs: Sequence[Run]) -> list[Answer]:
    from cspbench.views.answer import answers

    return [answer for run in runs if not run.stored.meta["suite"]["path"]
            for answer in answers(run)]  # fmt: skip


def print_runs(runs: Sequence[Run], form: str) -> None:
    """Print the case table of every run, then why the other cases have no numbers."""
    from cspbench.cli.options import emit_cases

    for run in runs:
        emit_cases(run, form)


def _report(runs: Sequence[Run], target: Path) -> str:
    from cspbench.report import write_report

    return str(write_report(runs, target))


def summary(runs: Sequence[Run], report: str | None) -> dict[str, Any]:
    """The object that ``--format json`` prints; ``run`` is the last one of several."""
    from cspbench.views.csp_forms import form_rows
    from cspbench.views.formats import records

    forms = [row for run in runs for row in form_rows(run)]
    columns = ["id", "status", "reason", "latency_ms", "latency_ms_low", "latency_ms_high", "fps",
               "ratio", "ratio_low", "ratio_high", "ratio_of", "flags"]  # fmt: skip
    return {
        "run": str(runs[-1].path),
        "runs": [str(run.path) for run in runs],
        "report": report,
        "cases": [row for run in runs for row in records(run.cases[columns])],
        "answers": [answer.as_dict() for answer in _answers(runs)],
        **({"csp": forms} if forms else {}),
    }
