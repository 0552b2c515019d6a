"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.errors import InputError
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

allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Allow models that run code which is not cspbench's."
)

out_file_option = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
)


def memory_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Callback of an option: bytes from ``500M``, ``8G``, ``1.5GiB`` (powers of 1024)."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a memory size; write 500M or 8G", ctx, param)
    return int(size)


def parse_overrides(settings: tuple[str, ...]) -> dict[str, object]:
    """Split ``--set key=value`` options; the suite reads the values as YAML.

    Raises:
        InputError: one without ``=``.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key.strip() or not equals:
            raise InputError(f"--set {setting}: write key=value, such as threads=2")
        overrides[key.strip()] = value
    return overrides


def emit(
    frame: pd.DataFrame, form: str, out: Path | None, numbers: dict[str, str] | None = None
) -> None:
    """Print a frame, or write it to ``out``."""
    if out is not None:
        write(frame, form, out)
        click.echo(str(out))
    else:
        click.echo(render(frame, form, numbers))
