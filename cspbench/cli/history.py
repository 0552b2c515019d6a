"""``cspbench history``: cases over stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import emit, results_option, table_options
from cspbench.core.output import say


@click.command()
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@table_options
@results_option
def command(patterns: tuple[str, ...], form: str, out: Path | None, results: Path) -> None:
    """Follow the cases that match PATTERN over the stored runs of the newest run's machine.

    Change points are advisory: a new level may be the code, a library or the machine. They need
    the library ruptures (pip install ruptures) and six runs of a case.
    """
    from cspbench.store.rundir import list_runs, read_run
    from cspbench.views.compare import FEWEST_RUNS, change_sentences, has_ruptures, history

    frame = history([read_run(path) for path in list_runs(results)], patterns)
    numbers = dict.fromkeys(("latency_ms", "latency_ms_low", "latency_ms_high"), ".3f")
    emit(frame, form, out, numbers)
    if not has_ruptures():
        say("no change points: pip install ruptures", err=True)
        return
    if form == "table":
        for sentence in change_sentences(frame):
            say(f"new level: {sentence}")
    if frame["change_point"].isna().all():
        say(f"no change points: fewer than {FEWEST_RUNS} runs of each case", err=True)
