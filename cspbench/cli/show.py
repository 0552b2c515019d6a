"""``cspbench show``: the tables of a stored run."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import emit, format_option, out_file_option, results_option


@click.command()
@click.argument("run")
@click.option("--launches", is_flag=True, help="One row a launch instead of one a case.")
@click.option("--layers", is_flag=True, help="One row a layer of every model.")
@click.option("--samples", is_flag=True, help="One row a timed inference.")
@format_option
@out_file_option
@results_option
def command(
    run: str, launches: bool, layers: bool, samples: bool, form: str, out: Path | None,
    results: Path,
) -> None:  # fmt: skip
    """Print the tables of RUN: a run directory, its name under results/, or "latest"."""
    from cspbench.frames import load
    from cspbench.store.rundir import find_run
    from cspbench.tables import NUMBERS, case_table, launch_table, reason_table

    stored = load(find_run(run, results))
    for problem in stored.stored.problems:
        click.echo(f"warning: {problem}", err=True)
    wide = form in ("json", "csv", "parquet")
    if samples:
        frame = stored.samples
    elif layers:
        frame = stored.layers
    elif launches:
        frame = stored.launches if wide else launch_table(stored)
    else:
        frame = stored.cases if wide else case_table(stored)
    emit(frame, form, out, NUMBERS)
    if form == "table" and out is None and not (samples or layers or launches):
        reasons = reason_table(stored)
        if len(reasons):
            click.echo("")
            emit(reasons, form, None)
