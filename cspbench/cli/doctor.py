"""``cspbench doctor``: what this machine is and what would spoil a measurement."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

_SIGNS = {"good": ("ok", "green"), "warn": ("warn", "yellow"), "info": ("-", None)}


@click.command()
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True, help="Form of the output.")  # fmt: skip
def command(form: str) -> None:
    """Look at this machine; every warning comes with its remedy. Nothing is changed."""
    from cspbench.doctor import examine

    findings = examine()
    if form == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
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
