"""``cspbench ceilings``: what this machine can do at best, for the roofline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import RegistryChoice, emit, emit_text, table_options
from cspbench.cli.reporter import Reporter, reporter_options
from cspbench.core.output import say
from cspbench.core.text import number_of
from cspbench.machine.devices.spec import DEVICES, HOST

if TYPE_CHECKING:
    from cspbench.jobs.ceilings import Ceilings


@click.command()
@click.option(
    "--device",
    type=RegistryChoice(DEVICES),
    default=HOST,
    show_default=True,
    help="Device to measure.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the worker."
)
@click.option("--again", is_flag=True, help="Measure although the ceilings are known.")
@table_options
@reporter_options  # fmt: skip
def command(
    device: str, threads: int, again: bool, form: str, out: Path | None, reporter: Reporter
) -> None:
    """Measure compute, bandwidth and overhead of a device once; later calls print them again."""
    from cspbench.runner.ceilings import measure_ceilings
    from cspbench.store.ceilings import known_ceilings

    known = None if again else known_ceilings(device, threads)
    ceilings = known or measure_ceilings(device, threads, reporter.report)
    if form == "json":
        emit_text(json.dumps(asdict(ceilings)), out)
        return
    rows = _rows(ceilings)
    if form != "table" or out is not None:
        import pandas as pd

        emit(pd.DataFrame(rows, columns=["ceiling", "value", "unit"]), form, out, {"value": ".2f"})
        return
    what = ceilings.name or number_of(ceilings.threads, "thread")
    say(f"{device}, {what}{' (measured earlier)' if known else ''}")
    for name, value, unit in rows:
        text = f"{value:.{2 if unit == 'µs' else 1}f} {unit}"
        say(f"  {name:24} {text:>16}")


def _rows(ceilings: Ceilings) -> list[tuple[str, float, str]]:
    """What the ceiling is of, its value and its unit."""
    return [
        *((f"{name} matrix product", rate, "GFLOP/s") for name, rate in ceilings.gflops.items()),
        *((f"memory {name}", rate, "GB/s") for name, rate in ceilings.bandwidth_gbs.items()),
        *((f"{level} copy", rate, "GB/s") for level, rate in ceilings.cache_bandwidth_gbs.items()),
        ("one operator", ceilings.overhead_us, "µs"),
    ]
