"""``cspbench show``: the tables of a stored run."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import (
    at_most_one,
    emit,
    emit_cases,
    emit_text,
    results_option,
    table_forms,
)
from cspbench.core.output import say
from cspbench.errors import InputError
from cspbench.views.trace import CHROME_TRACE, chrome_trace


@click.command()
@click.argument("run")
@click.option("--launches", is_flag=True, help="One row a launch instead of one a case.")
@click.option("--layers", is_flag=True, help="One row a layer of every model.")
@click.option("--layer-times", is_flag=True, help="One row an entry of a measured layer profile.")
@click.option("--ratios", is_flag=True, help="One row a case: its latency relative to another's.")
@click.option(
    "--relative-to",
    metavar="PATTERN",
    help="The case that ratios are relative to.  [default: the suite's reference]",
)
@click.option("--samples", is_flag=True, help="One row a timed inference.")
@table_forms(CHROME_TRACE)
@results_option
def command(
    run: str, launches: bool, layers: bool, layer_times: bool, ratios: bool,
    relative_to: str | None, samples: bool, form: str, out: Path | None, results: Path,
) -> None:  # fmt: skip
    """Print the tables of RUN: a run directory, its name under results/, or "latest".

    --layer-times --format chrome-trace --out FILE writes a timeline that ui.perfetto.dev opens.
    """
    at_most_one(
        launches=launches, layers=layers, layer_times=layer_times, ratios=ratios, samples=samples
    )
    if form == CHROME_TRACE and not layer_times:
        raise InputError(f"--format {CHROME_TRACE} draws layer times: add --layer-times")
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load
    from cspbench.views.tables import LOW_PRIORITY, NUMBERS, launch_table, layer_time_table

    stored = load(find_run(run, results), relative_to)
    for problem in stored.stored.problems:
        say(f"warning: {problem}", err=True)
    if form == CHROME_TRACE:
        emit_text(chrome_trace(stored), out)
        return
    wide = form in ("json", "csv", "parquet")
    if not (samples or layers or layer_times or launches or ratios):
        if wide:
            emit(stored.cases, form, out)
        else:
            emit_cases(stored, form, out)
        return
    if samples:
        frame = stored.samples
    elif layer_times:
        frame = stored.layer_times if wide else layer_time_table(stored)
    elif layers:
        frame = stored.layers
    elif ratios:
        frame = stored.ratios
    else:
        frame = stored.launches if wide else launch_table(stored)
    emit(frame, form, out, NUMBERS, LOW_PRIORITY)
