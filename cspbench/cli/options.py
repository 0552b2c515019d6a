"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.errors import InputError
from cspbench.formats import FORMATS, render, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from cspbench.frames import Run

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


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
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
    frame: pd.DataFrame,
    form: str,
    out: Path | None,
    numbers: dict[str, str] | None = None,
    spare: Sequence[str] = (),
) -> None:
    """Print a frame, or write it to ``out``; ``numbers`` and ``spare`` as in formats.render."""
    if out is not None:
        write(frame, form, out)
        click.echo(str(out))
    else:
        click.echo(render(frame, form, numbers, spare))


def emit_cases(run: Run, form: str, out: Path | None = None) -> None:
    """Print the case table of a run; people get what was measured first, then why the rest was not.

    The other forms hold every case, for a file has no width.
    """
    from cspbench.tables import NUMBERS, SPARE, case_table, reason_groups

    table = case_table(run)
    if form != "table" or out is not None:
        emit(table, form, out, NUMBERS)
        return
    told = table[table["latency_ms"].notna()]
    reasons = reason_groups(run)
    if len(told):
        emit(told.drop(columns=[] if len(set(told["status"])) > 1 else "status"), form, None,
             NUMBERS, SPARE)  # fmt: skip
    if len(told) and len(reasons):
        click.echo("")
    if len(reasons):
        emit(reasons, form, None)
