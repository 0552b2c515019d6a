"""``cspbench agent``: this machine as a board of a fleet."""

from __future__ import annotations

import click

from cspbench.cli.fleet_options import insecure_option, needs_fleet
from cspbench.cli.options import allow_code_option, memory_limit_option
from cspbench.core.output import say
from cspbench.core.statuses import ExitCode


@click.command()
@click.argument("scheduler", metavar="tls://HOST:PORT")
@click.option(
    "--name", help="Name of this board, unique in the fleet.  [default: the machine's name]"
)
@click.option(
    "--label", "labels", multiple=True, help="Label by which suites choose this board. Repeatable."
)
@click.option(
    "--cool-to",
    type=float,
    default=75.0,
    show_default=True,
    help="Wait before a launch while the board is hotter, in °C.",
)
@click.option(
    "--cool-seconds",
    type=click.FloatRange(0, 3600),
    default=120.0,
    show_default=True,
    help="Longest wait to cool down before a launch.",
)
@click.option(
    "--give-up",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End when no scheduler answers for that long.  [default: try for ever]",
)
@memory_limit_option
@allow_code_option
@insecure_option  # fmt: skip
def command(
    scheduler: str,
    name: str | None,
    labels: tuple[str, ...],
    cool_to: float,
    cool_seconds: float,
    give_up: float | None,
    memory_limit: int | None,
    allow_code: bool,
    insecure: bool,
) -> int:
    """Measure on this machine what the fleet of a Dask scheduler asks for, until stopped."""
    import asyncio

    from cspbench.fleet.board import Board, Settings, own_name
    from cspbench.fleet.security import check_address
    from cspbench.suite.suite import check_label

    settings = Settings(
        name=check_label(name or own_name()),
        labels=tuple(map(check_label, labels)),
        memory_limit_bytes=memory_limit,
        allow_code=allow_code,
        cool_to_c=cool_to,
        cool_seconds=cool_seconds,
    )
    check_address(scheduler, insecure=insecure)
    needs_fleet()
    from cspbench.fleet.agent import stay

    try:
        asyncio.run(stay(scheduler, Board(settings), give_up))
    except OSError as error:
        say(f"error: {scheduler}: {error}", err=True)
        return ExitCode.NOT_MEASURED
    return ExitCode.INTERRUPTED
