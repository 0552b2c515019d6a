"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.formats import FORMATS, render, write

if TYPE_CHECKING:
    import pandas as pd

format_option = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True,
    help="Form of the output.",
)  # fmt: skip

results_option = click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), default=Path("results"),
    show_default=True, help="Directory that holds the runs.",
)  # fmt: skip

out_file_option = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
)


def emit(
    frame: pd.DataFrame, form: str, out: Path | None, numbers: dict[str, str] | None = None
) -> None:
    """Print a frame, or write it to ``out``."""
    if out is not None:
        write(frame, form, out)
        click.echo(str(out))
    else:
        click.echo(render(frame, form, numbers))
