"""Options of commands that use a fleet; they import nothing of Dask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.fleet.client import FleetClient

scheduler_option = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Use the boards of this Dask scheduler, such as tls://host:8786.",
)
cluster_option = click.option(
    "--cluster",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.yaml",
    help="Use boards that one of Dask's cluster classes starts (docs/fleet.md).",
)
insecure_option = click.option(
    "--insecure",
    is_flag=True,
    help="Allow plain TCP beyond this machine; anyone who reaches it can run code on every board.",
)


def needs_fleet() -> None:
    """Say how to install Dask where it is missing.

    Raises:
        InputError: it is.
    """
    import importlib.util

    if importlib.util.find_spec("distributed") is None:
        raise InputError("a fleet needs Dask distributed: pip install distributed")


@contextlib.contextmanager
def fleet_of(
    scheduler: str | None,
    cluster: Path | None,
    waiting: Callable[[str], None] = lambda _sentence: None,
    *,
    insecure: bool,
) -> Iterator[FleetClient]:
    """Connect to a scheduler, or start a cluster; leave it, or end it, afterwards.

    ``waiting`` is called with a sentence while the boards of a cluster are waited for.

    Raises:
        InputError: both are given, Dask is missing, the address may not be used, or the scheduler
            does not answer.
        BusyError: the boards of the cluster did not come in time.
    """
    from cspbench.fleet.security import check_address

    if scheduler is not None and cluster is not None:
        raise InputError("give either --scheduler or --cluster")
    if scheduler is not None:
        check_address(scheduler, insecure=insecure)
    needs_fleet()
    from cspbench.fleet.client import FleetClient
    from cspbench.fleet.cluster import read_cluster, started

    with contextlib.ExitStack() as stack:
        if cluster is not None:
            settings = read_cluster(cluster)
            running = stack.enter_context(started(cluster, settings, waiting, insecure=insecure))
            client = FleetClient(
                running.scheduler_address, running, return_seconds=settings["return_seconds"]
            )
        else:
            assert scheduler is not None
            client = FleetClient(scheduler)
        stack.callback(client.close)
        yield client
