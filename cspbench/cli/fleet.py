"""``cspbench fleet``: the boards of a scheduler at a glance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.fleet_options import fleet_of, insecure_option
from cspbench.cli.options import emit_rows, table_options
from cspbench.cli.progress import duration_text
from cspbench.core.output import say
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.fleet.client import FleetClient

#: What a narrow terminal leaves out first.
_LOW_PRIORITY = ("versions", "cspbench", "backends", "power_mode", "labels")
#: Boards send what they do once a second.
_WATCH_SECONDS = 2.0
Row = dict[str, Any]


@click.command()
@click.argument("scheduler", metavar="tls://HOST:PORT")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until stopped.")
@insecure_option
@table_options
def command(scheduler: str, watch: bool, insecure: bool, form: str, out: Path | None) -> None:
    """List the boards of a Dask scheduler: what they do, how warm they are, how they differ.

    The column differs names conditions that keep a board from taking over the cases of another one
    of its label.
    """
    if watch and (form != "table" or out is not None):
        raise InputError("--watch shows a table: leave out --format and --out")
    with fleet_of(scheduler, None, insecure=insecure) as client:
        if watch:
            _watch(client)
            return
        rows = _rows(client)
        for sentence in client.refused:
            say(f"refused: {sentence}", err=True)
        if not rows and form == "table":
            say("the scheduler has no boards: start one with cspbench agent ADDRESS", err=True)
            return
        emit_rows(_for_people(rows) if form == "table" else rows, form, out,
                  low_priority=_LOW_PRIORITY)  # fmt: skip


def _rows(client: FleetClient) -> list[Row]:
    """The boards now.

    Raises:
        InputError: the scheduler went away.
    """
    from cspbench.fleet.overview import overview

    try:
        return overview(client.glances())
    except OSError as error:
        raise InputError(f"the scheduler at {client.address} went away: {error}") from error


def _for_people(rows: list[Row]) -> list[Row]:
    """The rows with state, object and duration in one sentence, and no unit in a name."""
    return [
        {
            "board": row["board"], "labels": row["labels"], "state": state_text(row),
            "°C": None if row["temperature_c"] is None else round(row["temperature_c"]),
            **{name: row[name] for name in
               ("power_mode", "backends", "cspbench", "versions", "differs")},
        }
        for row in rows
    ]  # fmt: skip


def state_text(row: Row) -> str:
    """``measuring csppeleenet@224/opencv-cpu/b1/t1 for 12 s``."""
    words = (row["state"], row["what"])
    text = ": ".join(filter(None, words)) if row["state"] == "waiting" else " ".join(
        filter(None, words))  # fmt: skip
    return f"{text} for {duration_text(row['seconds'])}" if row["state"] != "unknown" else text


def _watch(client: FleetClient) -> None:
    """Show the table again and again: in its place in a terminal, else below the one before."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from cspbench.core.output import raw_stderr, show
    from cspbench.views.formats import text_table

    def table() -> str:
        rows = _for_people(_rows(client))
        return text_table(rows, list(rows[0]), None, _LOW_PRIORITY) if rows else "no boards"

    if not Console().is_terminal:
        while True:
            show(table(), headed=True)
            time.sleep(_WATCH_SECONDS)
    console = Console(file=raw_stderr(), color_system=None)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text(table()), refresh=True)
            time.sleep(_WATCH_SECONDS)
