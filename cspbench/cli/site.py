"""``cspbench site``: a static site over all stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.core.files import RESULTS
from cspbench.core.output import say
from cspbench.core.text import number_of

if TYPE_CHECKING:
    from cspbench.site import Site


@click.command()
@click.argument(
    "results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, metavar="RESULTS"
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="Folder of the site. An earlier site in it is brought up to date.",
)  # fmt: skip
@click.option(
    "--watch", is_flag=True, help="Keep on: follow runs as they are measured, until interrupted."
)
@click.option(
    "--every", type=click.FloatRange(1, 3600), default=10.0, show_default=True, metavar="SECONDS",
    help="How often --watch looks for news, and an open page does.",
)  # fmt: skip
def command(results: Path, out: Path, watch: bool, every: float) -> None:
    """Write a static site over all runs below RESULTS, with any two of them compared.

    It needs no server: open DIR/index.html. Only runs that are new or have grown are read.
    """
    from cspbench.machine.facts import usable_cores
    from cspbench.site import follow, write_site

    def build() -> Site:
        seconds = every if watch else None
        return write_site(results, out, watch_seconds=seconds, processes=usable_cores())

    if watch:
        follow(build, every, _report)
    else:
        _report(build())


def _report(site: Site) -> None:
    for problem in site.unread:
        say(f"warning: not read: {problem}", err=True)
    runs, files = number_of(site.runs, "run"), number_of(site.changed, "file")
    say(f"{site.index}: {runs}, {site.read} read, {files} written")
