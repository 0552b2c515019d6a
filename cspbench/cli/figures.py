"""``cspbench figures``: the figures of stored runs as SVG and PNG files."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import folder_was_out, load_runs, reports_option, results_option
from cspbench.core.output import say


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--only", default="*", metavar="PATTERN", help="Draw only figures whose name matches."
)
@reports_option
@results_option
@folder_was_out("reports")
def command(runs: tuple[str, ...], only: str, reports: Path, results: Path) -> None:
    """Draw every figure that the RUNs hold data for, as SVG and PNG."""
    from cspbench.figures.spec import FIGURES, NoDataError
    from cspbench.figures.style import save

    loaded = load_runs(runs, results)
    for name in FIGURES.names(only):
        spec = FIGURES.get(name)
        try:
            figure = spec.draw(loaded)
        except NoDataError as reason:
            say(f"{name}: not drawn: {reason}", err=True)
            continue
        for path in save(figure, name, reports, spec.title):
            say(str(path))
