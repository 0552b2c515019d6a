"""``cspbench run`` on a fleet: plan, send, collect, as on one machine."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import parse_overrides
from cspbench.cli.talk import Talk
from cspbench.errors import InputError, StoreError
from cspbench.vocabulary import ExitCode

if TYPE_CHECKING:
    from cspbench.fleet.devices import BoardInfo, FleetPlan
    from cspbench.fleet.hub import Hub
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
) -> tuple[list[Path], ExitCode | None]:
    """Run all suites, or what is missing of a stored run, on a fleet.

    Returns:
        the run directories, and the exit code if we were stopped.
    """
    from cspbench.fleet.controller import execute_fleet, new_fleet_run

    boards = boards_of(hub)
    tasks: list[tuple[FleetPlan, StoredRun | None]]
    if resume is not None:
        tasks = [_resumed(suites, out, resume, boards, force, chosen=bool(only or settings))]
    else:
        tasks = [(fleet, None) for fleet in plans(suites, boards, only, settings)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    display = talk.display()
    paths: list[Path] = []
    try:
        for fleet, stored in tasks:
            path = stored.path if stored else new_fleet_run(fleet, out).path
            paths.append(path)
            before = stored.launches if stored else ()
            late = execute_fleet(fleet, path, hub, local, before, display)
            if late:
                click.echo(f"late, not counted: {len(late)} launches given up before", err=True)
    except KeyboardInterrupt:
        return paths, ExitCode.INTERRUPTED
    except StoreError as error:
        click.echo(f"error: {error}", err=True)
        return paths, ExitCode.NOT_MEASURED
    finally:
        display.close()
    return paths, None


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
    settings: tuple[str, ...],
) -> list[FleetPlan]:
    """Check everything: no mistake surfaces after the start."""
    from cspbench.fleet.devices import plan_fleet
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    paths = [path for suite in suites for path in find_suites(suite)]
    if not paths:
        raise InputError("name a suite to run, such as: cspbench run suites/edge.yaml")
    loaded = [load_suite(path, parse_overrides(settings)) for path in paths]
    return [plan_fleet(suite, boards, only) for suite in loaded]


def _resumed(
    suites: Sequence[str],
    out: Path,
    resume: str,
    boards: Sequence[BoardInfo],
    force: bool,
    *,
    chosen: bool,
) -> tuple[FleetPlan, StoredRun]:
    from cspbench.fleet.controller import resumable_fleet
    from cspbench.store.rundir import find_run
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    if chosen:
        raise InputError("--resume goes on with what the run planned: give no other choice")
    fleet, stored = resumable_fleet(find_run(resume, out), boards, force=force)
    paths = [path for suite in suites for path in find_suites(suite)]
    if any(load_suite(path).digest != fleet.plan.suite.digest for path in paths):
        raise InputError(f"{stored.path} is a run of another suite, or the suite changed")
    return fleet, stored
