"""``cspbench compare``: two stored runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import emit, results_option, share_option, table_options
from cspbench.core.output import say


@click.command()
@click.argument("base", metavar="RUN")
@click.argument("head", metavar="RUN")
@click.option(
    "--within",
    metavar="PERCENT",
    callback=share_option,
    help="Say which cases repeat within this, such as 5%.",
)
@table_options
@results_option
def command(
    base: str, head: str, within: float | None, form: str, out: Path | None, results: Path
) -> None:
    """Put two stored RUNs beside each other: ratios with intervals, but no verdict.

    A ratio is the second run's time over the first one's. Separate runs are a poor way to find
    small changes: cspbench gate measures both sides in turn.
    """
    from cspbench.api import compare
    from cspbench.views.compare import absent_sentence, repeat_sentence

    comparison = compare(base, head, results, tolerance=within)
    table = comparison.table
    shared = table[(table["base_status"] != "absent") & (table["head_status"] != "absent")]
    unmeasured = shared[(shared["base_status"] != "ok") & (shared["head_status"] != "ok")]
    if form == "table":
        table = shared.drop(unmeasured.index)
        unflagged = [name for name in ("base_flags", "head_flags") if not table[name].any()]
        table = table.drop(columns=unflagged)
    numbers = dict.fromkeys(("base_ms", "head_ms", "ratio", "ratio_low", "ratio_high"), ".3f")
    emit(table, form, out, numbers, ("launches", "base_status", "head_status"))
    if within is not None:
        say(repeat_sentence(shared, within), err=True)
    if form == "table" and len(unmeasured):
        say(f"not compared: {len(unmeasured)} cases that neither run measured", err=True)
    absent = absent_sentence(comparison.table, base, head)
    if absent:
        say(f"not compared: {absent}", err=True)
    for phrase in comparison.differences:
        say(f"warning: not the same conditions: {phrase}", err=True)
