"""``cspbench doctor``: what this machine is and what would spoil a measurement."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import emit, table_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cspbench.machine.doctor import Finding

_SIGNS = {"good": ("ok", "green"), "warn": ("warn", "yellow"), "info": ("-", None)}


@click.command()
@table_options
def command(form: str, out: Path | None) -> None:
    """Look at this machine; every warning comes with its remedy. Nothing is changed."""
    from cspbench.machine.doctor import examine

    findings = examine()
    if form == "table" and out is None:
        _print(findings)
        return
    import pandas as pd

    emit(pd.DataFrame([asdict(finding) for finding in findings]), form, out)


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        sign, colour = _SIGNS[finding.verdict]
        click.echo(
            f"{click.style(f'{sign:4}', fg=colour)}  {finding.check:{width}}  {finding.value}"
        )
        if finding.remedy:
            click.echo(f"{'':{width + 8}}{click.style(f'-> {finding.remedy}', dim=True)}")
    warnings = sum(finding.verdict == "warn" for finding in findings)
    click.echo(f"{warnings} warning{'' if warnings == 1 else 's'}")
