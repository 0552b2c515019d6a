"""``cspbench compare``: two stored runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import emit, results_option, table_options
from cspbench.core.output import say


@click.command()
@click.argument("base", metavar="RUN")
@click.argument("head", metavar="RUN")
@table_options
@results_option
def command(base: str, head: str, form: str, out: Path | None, results: Path) -> None:
    """Put two stored RUNs beside each other: ratios with intervals, but no verdict.

    Separate runs are a poor way to find small changes: cspbench gate measures both sides in turn.
    """
    from cspbench.api import compare

    comparison = compare(base, head, results)
    numbers = dict.fromkeys(("base_ms", "head_ms", "ratio", "ratio_low", "ratio_high"), ".3f")
    emit(comparison.table, form, out, numbers)
    for phrase in comparison.differences:
        say(f"warning: not the same conditions: {phrase}", err=True)
