"""``cspbench figures``: the figures of stored runs as files."""

from __future__ import annotations

from pathlib import Path

import click

from cspbench.cli.options import folder_was_out, load_runs, reports_option, results_option
from cspbench.core.output import say
from cspbench.figures.sizes import SIZES, drawn_for
from cspbench.figures.style import FORMS


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--only", default="*", metavar="PATTERN", help="Draw only figures whose name matches."
)
@click.option(
    "--size", type=click.Choice(tuple(SIZES)),
    help="Draw for a slide (16:9), a column of a paper (3.5 inches) or a poster (24 inches).",
)  # fmt: skip
@click.option(
    "--format", "forms", type=click.Choice(FORMS), multiple=True, default=("svg", "png"),
    show_default=True, help="Form of the files. Repeatable.",
)  # fmt: skip
@reports_option
@results_option
@folder_was_out("reports")
def command(
    runs: tuple[str, ...], only: str, size: str | None, forms: tuple[str, ...],
    reports: Path, results: Path,
) -> None:  # fmt: skip
    """Draw every figure that the RUNs hold data for, as SVG and PNG by default."""
    from cspbench.figures.cases import labelled
    from cspbench.figures.spec import FIGURES, NoDataError
    from cspbench.figures.style import save, smallest_points

    loaded = load_runs(runs, results)
    paper = SIZES[size] if size else None
    for name in FIGURES.names(only):
        spec = FIGURES.get(name)
        try:
            with drawn_for(paper), labelled(loaded):
                figure = spec.draw(loaded)
        except NoDataError as reason:
            say(f"{name}: not drawn: {reason}", err=True)
            continue
        for path in save(figure, name, reports, spec.title, forms, paper):
            say(str(path))
        if paper and (points := smallest_points(figure, paper)) < paper.least_points:
            say(
                f"{name}: its text is {points:.0f} points small on a {paper.name}, because it "
                "shows much: take runs with fewer cases",
                err=True,
            )
