"""``cspbench run``: plan, measure, store, report."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.options import format_option, parse_overrides
from cspbench.errors import InputError
from cspbench.vocabulary import ExitCode, exit_code_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cspbench.frames import Run
    from cspbench.runner.plan import Plan

#: A planned run: the plan, its directory, and the launches that it holds already.
Task = tuple["Plan", Any, "Sequence[dict[str, Any]]"]


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
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the suite, such as threads=2. Repeatable.",
)
@format_option  # fmt: skip
def command(
    suites: tuple[str, ...],
    out: Path,
    reports: Path,
    only: tuple[str, ...],
    rounds: int | None,
    resume: str | None,
    overrides: tuple[str, ...],
    form: str,
) -> int:
    """Measure every case of the SUITEs on this machine, store the run, write the report.

    A SUITE is a YAML file, the name of an installed suite, or a directory with suites.
    """
    settings = (*overrides, *([f"measure.rounds={rounds}"] if rounds else []))
    tasks = _tasks(suites, out, only, resume, settings)
    interrupted = _measure(tasks)
    return _finish([directory.path for _, directory, _ in tasks], reports, form, interrupted)


def _tasks(
    suites: Sequence[str],
    out: Path,
    only: Sequence[str],
    resume: str | None,
    settings: tuple[str, ...],
) -> list[Task]:
    """Check everything, then make the run directories: no mistake surfaces after the start."""
    from cspbench.runner.plan import plan_suite
    from cspbench.runner.run import new_run, resumable
    from cspbench.store.rundir import RunDirectory, find_run
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    if resume is not None:
        if suites or only or settings:
            raise InputError("--resume goes on with what the run planned: give no other choice")
        plan, stored = resumable(find_run(resume, out))
        return [(plan, RunDirectory(stored.path), stored.launches)]
    if not suites:
        raise InputError("name a suite to run, such as: cspbench run suites/edge.yaml")
    paths = [path for suite in suites for path in find_suites(suite)]
    loaded = [load_suite(path, parse_overrides(settings)) for path in paths]
    plans = [plan_suite(suite, only) for suite in loaded]
    return [(plan, new_run(plan, out), ()) for plan in plans]


def _measure(tasks: Sequence[Task]) -> bool:
    """Run all tasks; True if the user (or the system, by SIGTERM) stopped them."""
    from cspbench.cli.progress import progress_for_terminal
    from cspbench.runner.run import execute

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = progress_for_terminal()
    try:
        for plan, directory, before in tasks:
            execute(plan, directory, before, progress=progress)
    except KeyboardInterrupt:
        return True
    finally:
        progress.close()
    return False


def _finish(paths: Sequence[Path], reports: Path, form: str, interrupted: bool) -> int:
    """Print the tables and write the report of what exists."""
    from cspbench.frames import load
    from cspbench.report import write_report

    runs = [load(path) for path in paths]
    target = reports / f"{paths[-1].name}.html"
    report = write_report(runs, target)
    code = exit_code_for(record.status for run in runs for record in run.records)
    if form == "json":
        click.echo(json.dumps(summary(runs, report), allow_nan=False))
    else:
        print_runs(runs, form)
        click.echo("")
        for run in runs:
            click.echo(f"run     {run.path}")
        click.echo(f"report  {report}")
    return ExitCode.INTERRUPTED if interrupted else code


def print_runs(runs: Sequence[Run], form: str) -> None:
    """Print the case table of every run, then why the other cases have no numbers."""
    from cspbench.cli.options import emit
    from cspbench.tables import NUMBERS, case_table, reason_table

    for run in runs:
        emit(case_table(run), form, None, NUMBERS)
        reasons = reason_table(run)
        if form == "table" and len(reasons):
            click.echo("")
            emit(reasons, form, None)


def summary(runs: Sequence[Run], report: Path) -> dict[str, Any]:
    """The object that ``--format json`` prints; ``run`` is the last one of several."""
    from cspbench.formats import records

    columns = ["id", "status", "reason", "latency_ms", "latency_ms_low", "latency_ms_high", "fps",
               "flags"]  # fmt: skip
    return {
        "run": str(runs[-1].path),
        "runs": [str(run.path) for run in runs],
        "report": str(report),
        "cases": [row for run in runs for row in records(run.cases[columns])],
    }
