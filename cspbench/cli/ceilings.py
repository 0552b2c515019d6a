"""``cspbench ceilings``: what this machine can do at best, for the roofline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import emit, emit_text, table_options
from cspbench.cli.reporter import Talk, talk_options
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.jobs.ceilings import Ceilings


@click.command()
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--again", is_flag=True, help="Measure again although it is known.")
@table_options
@talk_options
def command(
    device: str, threads: int, again: bool, form: str, out: Path | None, talk: Talk
) -> None:
    """Measure compute, bandwidth and overhead of a device once; later calls print what is known."""
    from cspbench.store.ceilings import known_ceilings

    found = None if again else known_ceilings(device, threads)
    ceilings = found or _measure(device, threads, talk)
    if form == "json":
        emit_text(json.dumps(asdict(ceilings)), out)
        return
    rows = _rows(ceilings)
    if form != "table" or out is not None:
        import pandas as pd

        emit(pd.DataFrame(rows, columns=["ceiling", "value", "unit"]), form, out, {"value": ".2f"})
        return
    what = ceilings.name or f"{ceilings.threads} thread{'s' if ceilings.threads > 1 else ''}"
    click.echo(f"{device}, {what}{' (measured earlier)' if found else ''}")
    for name, value, unit in rows:
        text = f"{value:.{2 if unit == 'µs' else 1}f} {unit}"
        click.echo(f"  {name:24} {text:>16}")


def _rows(ceilings: Ceilings) -> list[tuple[str, float, str]]:
    """What the ceiling is of, its value and its unit."""
    return [
        *((f"{name} matrix product", rate, "GFLOP/s") for name, rate in ceilings.gflops.items()),
        *((f"memory {name}", rate, "GB/s") for name, rate in ceilings.bandwidth_gbs.items()),
        *((f"{level} copy", rate, "GB/s") for level, rate in ceilings.cache_bandwidth_gbs.items()),
        ("one operator", ceilings.overhead_us, "µs"),
    ]


def _measure(device: str, threads: int, talk: Talk) -> Ceilings:
    from cspbench.backends.spec import BACKENDS
    from cspbench.jobs.ceilings import CeilingsRequest, CeilingsResult
    from cspbench.machine.lock import timing_lock
    from cspbench.runner.executor import LocalExecutor
    from cspbench.store.ceilings import keep_ceilings

    reason = BACKENDS.get(f"torch-{device}").available()
    if reason:
        raise InputError(f"{device} cannot be measured here: {reason}")
    with timing_lock("ceilings", waiting=talk.tell):
        request = CeilingsRequest(device, threads)
        outcome = LocalExecutor().launch(request, threads, 600)
    found: CeilingsResult | None = outcome.checked(request.job)
    if found is None:
        raise InputError(f"the ceilings of {device} could not be measured: {outcome.reason}")
    keep_ceilings(device, found.ceilings)
    return found.ceilings
