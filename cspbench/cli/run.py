"""``cspbench run``: plan, measure, store, report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.fleet_options import (
    cluster_option,
    fleet_of,
    insecure_option,
    scheduler_option,
)
from cspbench.cli.measuring import Ending, check_suites, stoppable, suites_of
from cspbench.cli.options import allow_code_option, format_option, memory_size
from cspbench.cli.reporter import Talk, talk_options
from cspbench.core.statuses import ExitCode, exit_code_for
from cspbench.errors import InputError, noting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cspbench.runner.executor import Executor
    from cspbench.runner.plan import Plan
    from cspbench.store.rundir import StoredRun
    from cspbench.views.frames import Run


@dataclass(frozen=True)
class Task:
    """A planned run; ``stored`` is what it goes on with, if it is resumed."""

    plan: Plan
    stored: StoredRun | None = None


@click.command()
@click.argument("suites", nargs=-1, metavar="SUITE...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Directory for run directories.",
)
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Directory for the HTML report.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Measure only cases whose id matches; * and ? are special. Repeatable.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), help="Launches a case.")
@click.option("--resume", metavar="RUN", help="Measure what is missing in a stored run.")
@click.option(
    "--force", is_flag=True, help="Resume although the machine or a version of a library changed."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the suite, such as threads=2. Repeatable.",
)
@click.option(
    "--memory-limit",
    callback=memory_size,
    metavar="SIZE",
    help="Bound of a worker's memory, such as 8G.  [default: 80 % of what is free]",
)
@allow_code_option
@click.option(
    "--no-wait", is_flag=True, help="Refuse to start while another run measures on this machine."
)
@scheduler_option
@cluster_option
@insecure_option
@talk_options
@format_option  # fmt: skip
def command(
    suites: tuple[str, ...],
    out: Path,
    reports: Path,
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
    talk: Talk,
) -> int:
    """Measure every case of the SUITEs on this machine, store the run, write the report.

    With --scheduler or --cluster on the boards of a fleet instead.

    A SUITE is a YAML file, the name of an installed suite, or a directory with suites.
    """
    from cspbench.runner.executor import LocalExecutor

    settings = (*overrides, *([f"measure.rounds={rounds}"] if rounds else []))
    if resume is not None and (only or settings):
        raise InputError("--resume goes on with what the run planned: give no other choice")
    if force and resume is None:
        raise InputError("--force is for --resume: name the run to go on with")
    local = LocalExecutor(memory_limit, allow_code=allow_code)
    if scheduler is not None or cluster is not None:
        from cspbench.cli.fleet_run import measure_on_fleet

        with fleet_of(scheduler, cluster, insecure=insecure) as hub:
            ending = measure_on_fleet(hub, suites, out, only, settings, resume, force, local, talk)
    else:
        tasks = (
            _planned(suites, only, settings)
            if resume is None
            else _resumed(suites, out, resume, force)
        )
        ending = _measure(tasks, out, local, talk, wait=not no_wait)
    return _end(ending, reports, form, talk)


def _planned(suites: Sequence[str], only: Sequence[str], settings: Sequence[str]) -> list[Task]:
    from cspbench.runner.plan import plan_suite

    return [Task(plan_suite(suite, only)) for suite in suites_of(suites, settings)]


def _resumed(suites: Sequence[str], out: Path, resume: str, force: bool) -> list[Task]:
    from cspbench.runner.run import resumable
    from cspbench.store.rundir import find_run

    plan, stored = resumable(find_run(resume, out), force=force)
    check_suites(suites, plan, stored)
    return [Task(plan, stored)]


def _measure(
    tasks: Sequence[Task], out: Path, executor: Executor, talk: Talk, *, wait: bool
) -> Ending:
    """Run all tasks, alone on this machine."""
    from cspbench.machine.lock import timing_lock
    from cspbench.runner.run import execute, new_run
    from cspbench.store.rundir import RunDirectory, read_run

    what = ", ".join(task.plan.suite.name for task in tasks)
    ending = Ending()
    with stoppable(talk, ending) as display, timing_lock(what, wait=wait, waiting=talk.tell):
        for task in tasks:
            # Read again: while we waited for the lock another session may have gone on with it.
            before = read_run(task.stored.path).launches if task.stored else ()
            directory = RunDirectory(task.stored.path) if task.stored else new_run(task.plan, out)
            ending.paths.append(directory.path)
            execute(task.plan, directory, before, executor, display)
    return ending


def _end(ending: Ending, reports: Path, form: str, talk: Talk) -> ExitCode:
    """Show what was measured; what stopped us decides the exit code, whatever can be shown."""
    stopped = ending.stopped
    if not ending.paths:
        return ExitCode.OK if stopped is None else stopped
    kept = ", ".join(map(str, ending.paths))
    try:
        with noting(f"what was measured is kept in {kept}"):
            measured = _finish(ending.paths, reports, form, talk)
    except InputError as error:
        if stopped is None:
            raise
        click.echo(f"error: {error}", err=True)
        return stopped
    return measured if stopped is None else stopped


def _finish(paths: Sequence[Path], reports: Path, form: str, talk: Talk) -> ExitCode:
    """Print the tables and write the report of what exists."""
    from cspbench.report import write_report
    from cspbench.views.frames import load

    runs = [load(path) for path in paths]
    target = reports / f"{paths[-1].name}.html"
    report = write_report(runs, target)
    code = exit_code_for(record.status for run in runs for record in run.records)
    talk.event("finished", runs=[str(path) for path in paths], report=str(report), code=int(code))
    if form == "json":
        click.echo(json.dumps(summary(runs, report), allow_nan=False))
    else:
        print_runs(runs, form)
        click.echo("")
        for run in runs:
            click.echo(f"run     {run.path}")
        click.echo(f"report  {report}")
    return code


def print_runs(runs: Sequence[Run], form: str) -> None:
    """Print the case table of every run, then why the other cases have no numbers."""
    from cspbench.cli.options import emit_cases

    for run in runs:
        emit_cases(run, form)


def summary(runs: Sequence[Run], report: Path) -> dict[str, Any]:
    """The object that ``--format json`` prints; ``run`` is the last one of several."""
    from cspbench.views.formats import records

    columns = ["id", "status", "reason", "latency_ms", "latency_ms_low", "latency_ms_high", "fps",
               "flags"]  # fmt: skip
    return {
        "run": str(runs[-1].path),
        "runs": [str(run.path) for run in runs],
        "report": str(report),
        "cases": [row for run in runs for row in records(run.cases[columns])],
    }
