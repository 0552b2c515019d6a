"""``cspbench figures``: the figures of stored runs as SVG and PNG files."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import results_option


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--only", default="*", metavar="PATTERN", help="Only figures of these names.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Directory for the files.",
)
@results_option  # fmt: skip
def command(runs: tuple[str, ...], only: str, out: Path, results: Path) -> None:
    """Draw every figure that the RUNs hold data for, as SVG and PNG."""
    from cspbench.figures.spec import FIGURES, NoDataError
    from cspbench.figures.style import save
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load

    loaded = [load(find_run(run, results)) for run in runs]
    for name in FIGURES.names(only):
        spec = FIGURES.get(name)
        try:
            figure = spec.draw(loaded)
        except NoDataError as reason:
            click.echo(f"{name}: not drawn: {reason}", err=True)
            continue
        out.mkdir(parents=True, exist_ok=True)
        for path in save(figure, name, out, spec.title):
            click.echo(str(path))
