"""``cspbench run`` on a fleet: plan, send, collect, as on one machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.cli.measuring import check_suites, suites_of
from cspbench.core.output import say
from cspbench.errors import InputError, noting

if TYPE_CHECKING:
    from cspbench.cli.model_arguments import ModelArguments
    from cspbench.fleet.client import FleetClient
    from cspbench.fleet.devices import BoardInfo, FleetPlan
    from cspbench.runner.executor import Executor
    from cspbench.runner.progress import Progress
    from cspbench.store.rundir import StoredRun

#: A planned run, and what it goes on with if it is resumed.
FleetTask = tuple["FleetPlan", "StoredRun | None"]


def fleet_tasks(
    client: FleetClient, suites: Sequence[str], only: Sequence[str], settings: Sequence[str],
    results: Path, resume: str | None, arguments: ModelArguments, *, force: bool,
) -> list[FleetTask]:  # fmt: skip
    """The runs to measure on the fleet: of every suite, or what is missing of a stored one."""
    from cspbench.fleet.controller import resumable_fleet
    from cspbench.store.rundir import find_run

    boards = boards_of(client)
    if resume is None:
        return [(fleet, None) for fleet in plans(suites, boards, only, settings, arguments)]
    fleet, stored = resumable_fleet(find_run(resume, results), boards, force=force)
    check_suites(suites, fleet.plan, stored)
    return [(fleet, stored)]


def measure_on_fleet(
    client: FleetClient,
    tasks: Sequence[FleetTask],
    results: Path,
    local: Executor,
    progress: Progress,
) -> Iterator[Path]:
    """Measure the tasks; each run's directory is yielded as soon as it exists."""
    from cspbench.fleet.controller import execute_fleet, new_fleet_run

    for fleet, stored in tasks:
        path = stored.path if stored else new_fleet_run(fleet, results).path
        yield path
        before = stored.launches if stored else ()
        with noting(f"what was measured is kept in {path}"):
            late = execute_fleet(fleet, path, client, local, before, progress)
        if late:
            say(f"{len(late)} launches came late and do not count", err=True)


def boards_of(client: FleetClient) -> list[BoardInfo]:
    """The fleet; says of every worker that is not taken why.

    Raises:
        InputError: the scheduler went away.
    """
    try:
        boards = client.boards()
    except OSError as error:
        raise InputError(f"the scheduler at {client.address} went away: {error}") from error
    for sentence in client.refused:
        say(f"refused: {sentence}", err=True)
    if not boards and client.refused:
        raise InputError([f"no board can be used: {sentence}" for sentence in client.refused])
    return boards


def plans(
    suites: Sequence[str],
    boards: Sequence[BoardInfo],
    only: Sequence[str],
    settings: Sequence[str],
    arguments: ModelArguments,
) -> list[FleetPlan]:
    """The suites, and the one of models, on these boards."""
    from cspbench.fleet.devices import plan_fleet

    named = suites_of(suites, settings, arguments.for_fleet())
    return [plan_fleet(suite, boards, only) for suite in named]
