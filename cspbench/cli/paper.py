"""``cspbench paper``: the paper's claims and tables checked against stored runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import emit, results_option, table_options
from cspbench.core.output import say

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

#: Columns of the checklist that people read; json, csv and parquet have all.
NARROW = ("claim", "verdict", "statement", "published", "here", "reason")
#: In the names of the runs of suites/paper.
SUITES = "-paper-"


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--table", "number", type=click.IntRange(1, 5), metavar="1..5",
    help="Print this table of the paper instead of the checklist of claims.",
)  # fmt: skip
@table_options
@results_option
def command(
    runs: tuple[str, ...], number: int | None, form: str, out: Path | None, results: Path
) -> None:
    """Check the CSPNet paper's claims against RUNs: reproduced, not reproduced, or why neither.

    RUN is a run directory, its name under --results, "latest", or a directory that holds runs.
    Without one the newest run of each suite of suites/paper counts. The command analyses what no
    run has analysed, and times nothing; "cspbench run suites/paper" does that.
    """
    from cspbench.paper.claims import check_all, checklist, models_of_claims
    from cspbench.paper.evidence import from_runs, with_analyses
    from cspbench.paper.reproduced import TABLES

    evidence = from_runs(_load(runs, results))
    wide = form in ("json", "csv", "parquet")
    if number is not None:
        models = TABLES[number](evidence).models
        table = TABLES[number](with_analyses(evidence, models))
        frame: pd.DataFrame = table.frame() if wide else table.readable()
        below = table.notes
    else:
        full = checklist(check_all(with_analyses(evidence, models_of_claims())))
        frame = full if wide else full[list(NARROW)]
        counts = full["verdict"].value_counts()
        below = (", ".join(f"{count} {verdict}" for verdict, count in counts.items()),)
    emit(frame, form, out)
    if form == "table" and out is None:
        say("")
        for line in below:
            say(line)


def _load(names: Sequence[str], results: Path) -> list[Run]:
    """The named runs; without names the newest run of each suite of the paper."""
    from cspbench.store.rundir import find_run, list_runs
    from cspbench.views.frames import load

    if not names:
        newest = {path.name.partition(SUITES)[2]: path for path in list_runs(results)
                  if SUITES in path.name}  # fmt: skip
        return [load(path) for path in newest.values()]
    paths: list[Path] = []
    for name in names:
        inside = list_runs(Path(name)) if os.path.isdir(name) else []
        paths += inside or [find_run(name, results)]
    return [load(path) for path in paths]
