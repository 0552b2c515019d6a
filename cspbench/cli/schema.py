"""``cspbench schema``: JSON Schema of suites, for editors."""

from __future__ import annotations

import json

import click

from cspbench.core.output import show


@click.command()
def command() -> None:
    """Print the JSON Schema of suite files."""
    from cspbench.suite.json_schema import json_schema

    show(json.dumps(json_schema(), indent=1))
