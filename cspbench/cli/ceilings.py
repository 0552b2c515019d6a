"""``cspbench ceilings``: what this machine can do at best, for the roofline."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cspbench.cli.talk import Talk, talk_options
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.store.ceilings import Ceilings


@click.command()
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--again", is_flag=True, help="Measure again although it is known.")
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table",
              show_default=True, help="Form of the output.")  # fmt: skip
@talk_options
def command(device: str, threads: int, again: bool, form: str, talk: Talk) -> None:
    """Measure compute, bandwidth and overhead of a device once; later calls print what is known."""
    from cspbench.store.ceilings import known_ceilings

    found = None if again else known_ceilings(device, threads)
    ceilings = found or _measure(device, threads, talk)
    if form == "json":
        click.echo(json.dumps(asdict(ceilings)))
        return
    rows = [(f"{name} matrix product", f"{rate:.1f} GFLOP/s")
            for name, rate in ceilings.gflops.items()]  # fmt: skip
    rows += [(f"memory {name}", f"{rate:.1f} GB/s") for name, rate in
             ceilings.bandwidth_gbs.items()]  # fmt: skip
    rows += [(f"{level} copy", f"{rate:.1f} GB/s") for level, rate in
             ceilings.cache_bandwidth_gbs.items()]  # fmt: skip
    rows += [("one operator", f"{ceilings.overhead_us:.2f} µs")]
    what = ceilings.name or f"{ceilings.threads} thread{'s' if ceilings.threads > 1 else ''}"
    click.echo(f"{device}, {what}{' (measured earlier)' if found else ''}")
    for name, value in rows:
        click.echo(f"  {name:24} {value:>16}")


def _measure(device: str, threads: int, talk: Talk) -> Ceilings:
    from cspbench.backends.spec import BACKENDS
    from cspbench.runner.executor import LocalExecutor
    from cspbench.runner.lock import timing_lock
    from cspbench.store.ceilings import Ceilings, keep_ceilings
    from cspbench.vocabulary import Status

    reason = BACKENDS.get(f"torch-{device}").available()
    if reason:
        raise InputError(f"{device} cannot be measured here: {reason}")
    with timing_lock("ceilings", waiting=talk.tell):
        job = {"job": "ceilings", "device": device, "threads": threads}
        outcome = LocalExecutor().launch(job, threads, 600)
    if outcome.status is not Status.OK:
        raise InputError(f"the ceilings of {device} could not be measured: {outcome.reason}")
    ceilings = Ceilings(**outcome.answer["ceilings"])
    keep_ceilings(device, ceilings)
    return ceilings
