"""``cspbench show``: the tables of a stored run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

#: Forms that hold all columns of a frame.
WIDE = ("json", "csv", "parquet")


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
@click.option("--claims", is_flag=True, help="One line a case to quote, with its conditions.")
@click.option(
    "--phases", is_flag=True, help="One row a case: load, first inference, warm-up, steady state."
)
@click.option(
    "--torch-trace",
    metavar="CASE",
    help="The trace of torch.profiler that the case of this id or pattern kept (measure.trace).",
)
@click.option("--samples", is_flag=True, help="One row a timed inference.")
@table_forms(CHROME_TRACE)
@results_option
def command(
    run: str,
    relative_to: str | None,
    torch_trace: str | None,
    form: str,
    out: Path | None,
    results: Path,
    **tables: bool,
) -> None:
    """Print the tables of RUN: a run directory, its name under results/, or "latest".

    --layer-times --format chrome-trace --out FILE writes a timeline that ui.perfetto.dev opens, and
    so does --torch-trace CASE --out FILE.
    """
    at_most_one(torch_trace=bool(torch_trace), **tables)
    asked = next((name for name, there in tables.items() if there), "cases")
    if form == CHROME_TRACE and asked != "layer_times":
        raise InputError(f"--format {CHROME_TRACE} draws layer times: add --layer-times")
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load
    from cspbench.views.tables import LOW_PRIORITY, NUMBERS
    from cspbench.views.trace import torch_trace as trace_of_torch

    stored = load(find_run(run, results), relative_to)
    for problem in stored.stored.problems:
        say(f"warning: {problem}", err=True)
    if torch_trace is not None:
        emit_text(trace_of_torch(stored, torch_trace), out)
    elif form == CHROME_TRACE:
        emit_text(chrome_trace(stored), out)
    elif asked == "cases" and form not in WIDE:
        emit_cases(stored, form, out)
    elif asked == "claims" and form == "table":
        emit_text("\n".join(_frame(stored, asked, wide=True)["claim"]), out)
    else:
        emit(_frame(stored, asked, form in WIDE), form, out, NUMBERS, LOW_PRIORITY)


def _frame(run: Run, asked: str, wide: bool) -> pd.DataFrame:
    """The frame that an option names: with all its columns, or those that people read."""
    import pandas as pd

    from cspbench.views.tables import launch_table, layer_time_table, phase_table

    if asked == "claims":
        from cspbench.fleet.views import by_board
        from cspbench.views.claims import CLAIM_COLUMNS, claims

        return pd.DataFrame(claims(by_board(run)), columns=list(CLAIM_COLUMNS))
    if asked == "phases":
        from cspbench.views.phases import PHASE_COLUMNS, phases

        every = pd.DataFrame(phases(run), columns=list(PHASE_COLUMNS))
        return every if wide else phase_table(every)
    if asked == "layer_times" and not wide:
        return layer_time_table(run)
    if asked == "launches" and not wide:
        return launch_table(run)
    frame: pd.DataFrame = getattr(run, asked)
    return frame
