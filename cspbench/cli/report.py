"""``cspbench report``: write the HTML report of stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import REPORTS, load_runs, results_option
from cspbench.core.output import say


@click.command(name="report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="HTML file to write; reports/<run>.html by default.",
)  # fmt: skip
@results_option
def command(runs: tuple[str, ...], out: Path | None, results: Path) -> None:
    """Write one self-contained HTML file about stored runs and print its path.

    RUN is a run directory, the name of one under --results, or "latest". Several runs share a
    page.
    """
    from cspbench.report import write_report

    loaded = load_runs(runs, results)
    names = "+".join(run.name for run in loaded)
    say(str(write_report(loaded, out or REPORTS / f"{names}.html")))
