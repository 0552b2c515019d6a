"""``cspbench run`` on a fleet: plan, send, collect, as on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.measuring import Ending, check_suites, stoppable, suites_of
from cspbench.cli.reporter import Talk
from cspbench.errors import InputError, noting

if TYPE_CHECKING:
    from cspbench.fleet.client import Hub
    from cspbench.fleet.devices import BoardInfo, FleetPlan
    from cspbench.runner.executor import Executor
    from cspbench.store.rundir import StoredRun


def measure_on_fleet(
    hub: Hub,
    suites: Sequence[str],
    out: Path,
    only: Sequence[str],
    settings: tuple[str, ...],
    resume: str | None,
    force: bool,
    local: Executor,
    talk: Talk,
) -> Ending:
    """Run all suites, or what is missing of a stored run, on a fleet."""
    from cspbench.fleet.controller import execute_fleet, new_fleet_run

    boards = boards_of(hub)
    tasks: list[tuple[FleetPlan, StoredRun | None]]
    if resume is not None:
        tasks = [_resumed(suites, out, resume, boards, force)]
    else:
        tasks = [(fleet, None) for fleet in plans(suites, boards, only, settings)]
    ending = Ending()
    with stoppable(talk, ending) as display:
        for fleet, stored in tasks:
            path = stored.path if stored else new_fleet_run(fleet, out).path
            ending.paths.append(path)
            before = stored.launches if stored else ()
            with noting(f"what was measured is kept in {path}"):
                late = execute_fleet(fleet, path, hub, local, before, display)
            if late:
                click.echo(f"late, not counted: {len(late)} launches given up before", err=True)
    return ending


def boards_of(hub: Hub) -> list[BoardInfo]:
    """The fleet; says of every worker that is not taken why.

    Raises:
        InputError: the scheduler went away.
    """
    try:
        boards = hub.boards()
    except OSError as error:
        raise InputError(f"the scheduler at {hub.address} went away: {error}") from error
    for sentence in hub.refused:
        click.echo(f"refused: {sentence}", err=True)
    if not boards and hub.refused:
        raise InputError([f"no board can be used: {sentence}" for sentence in hub.refused])
    return boards


def plans(
    suites: Sequence[str],
    boards: Sequence[BoardInfo],
    only: Sequence[str],
    settings: Sequence[str],
) -> list[FleetPlan]:
    """The suites on these boards."""
    from cspbench.fleet.devices import plan_fleet

    return [plan_fleet(suite, boards, only) for suite in suites_of(suites, settings)]


def _resumed(
    suites: Sequence[str], out: Path, resume: str, boards: Sequence[BoardInfo], force: bool
) -> tuple[FleetPlan, StoredRun]:
    from cspbench.fleet.controller import resumable_fleet
    from cspbench.store.rundir import find_run

    fleet, stored = resumable_fleet(find_run(resume, out), boards, force=force)
    check_suites(suites, fleet.plan, stored)
    return fleet, stored
