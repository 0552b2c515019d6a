"""``cspbench fsck``: check a stored run, and repair what can be repaired."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import results_option
from cspbench.core.output import say
from cspbench.core.statuses import ExitCode
from cspbench.core.text import number_of


@click.command()
@click.argument("run")
@click.option("--repair", is_flag=True, help="Move damaged lines to launches.damaged.")
@results_option
def command(run: str, repair: bool, results: Path) -> int:
    """Check every checksum of RUN, and every launch against the plan.

    The exit code is 3 if anything is wrong.
    """
    from cspbench.store import fsck
    from cspbench.store.rundir import find_run

    path = find_run(run, results)
    report = fsck.check(path)
    for problem in report.problems:
        say(problem)
    if repair and report.repairable:
        say(f"moved {fsck.repair(path)} damaged lines to {path / fsck.DAMAGED_FILE}")
        report = fsck.check(path)
    elif report.repairable:
        say("cspbench fsck --repair moves damaged lines out of the way")
    found = number_of(report.launches, "launch"), number_of(len(report.problems), "problem")
    say(f"{path}: {', '.join(found)}")
    return ExitCode.NOT_MEASURED if report.problems else ExitCode.OK
