"""Progress of a run: a live bar in a terminal, one line a launch elsewhere (CI logs)."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cspbench.formats import printable
from cspbench.runner.plan import Plan


def latency_text(launch: dict[str, Any]) -> str:
    """What a launch found, in a few words."""
    if launch["status"] != "ok":
        return f"{launch['status']}: {printable(launch['reason'])}"
    if launch["job"] == "memory":
        return f"peak memory {launch['memory']['peak_memory_bytes'] / 2**20:.1f} MiB"
    if launch["job"] == "layers":
        return f"{len(launch['layers']['entries'])} layer times"
    if launch["job"] == "throughput":
        found = launch["throughput"]
        return f"{found['inferences']} inferences, up to {found['in_flight']} at a time"
    if launch["job"] == "compile":
        return f"compiled in {launch['compile_seconds']:.1f} s"
    flags = f" [{', '.join(launch['flags'])}]" if launch["flags"] else ""
    return f"{median(launch['latencies_ns']) / 1e6:.2f} ms{flags}"


class LineProgress:
    """One line an event, for logs; to standard error, so that standard output stays data."""

    def __init__(self) -> None:
        self._done = 0
        self._start = 0.0

    def preparing(self, model: str, done: int, total: int) -> None:
        """A model is being exported."""
        click.echo(f"preparing {done + 1}/{total} {printable(model)}", err=True)

    def started(self, plan: Plan, launches: int) -> None:
        """Remember how much there is to do."""
        self._done, self._start = 0, time.monotonic()
        cases = len(plan.runnable)
        skipped = len(plan.cases) - cases
        text = f"{plan.suite.name}: {cases} cases, {launches} launches"
        click.echo(text + (f", {skipped} cases not runnable here" if skipped else ""), err=True)

    def launching(self, case_id: str) -> None:
        """Say nothing: the line comes when it ended."""

    def launched(self, launch: dict[str, Any], left: int) -> None:
        """Print what it found and when all will be done."""
        if launch["job"] == "prepare":
            click.echo(f"{printable(launch['case'])}: {latency_text(launch)}", err=True)
            return
        self._done += 1
        seconds = (time.monotonic() - self._start) / self._done * left
        click.echo(
            f"[{self._done}/{self._done + left}, {seconds:.0f} s left] "
            f"{printable(launch['case'])}: "
            f"{latency_text(launch)}",
            err=True,
        )

    def close(self) -> None:
        """Nothing to clean up."""


class BarProgress:
    """A bar with the current case, its running estimate and the time that is left."""

    def __init__(self) -> None:
        self._medians: dict[str, list[float]] = {}
        self._done = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, now="", start=False)
        self._bar.start()

    def preparing(self, model: str, done: int, total: int) -> None:
        """Show which model is being exported."""
        self._bar.update(
            self._task, description="preparing", completed=done, total=total, now=printable(model)
        )

    def started(self, plan: Plan, launches: int) -> None:
        """Start the bar of launches."""
        self._done = 0
        self._bar.reset(self._task, total=launches, description=printable(plan.suite.name), now="")

    def launching(self, case_id: str) -> None:
        """Show the case with the median of its launches so far."""
        seen = self._medians.get(case_id)
        so_far = f" ({median(seen):.2f} ms so far)" if seen else ""
        self._bar.update(self._task, now=f"{printable(case_id)}{so_far}")

    def launched(self, launch: dict[str, Any], left: int) -> None:
        """Advance; keep the estimate; let failures stand above the bar."""
        if launch["status"] == "ok" and launch["job"] == "time":
            found = median(launch["latencies_ns"]) / 1e6
            self._medians.setdefault(launch["case"], []).append(found)
        elif launch["status"] != "ok":
            text = f"{printable(launch['case'])}: {latency_text(launch)}"
            self._bar.console.print(text, markup=False, highlight=False)
        if launch["job"] != "prepare":
            self._done += 1
            self._bar.update(self._task, completed=self._done, total=self._done + left)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def progress_for_terminal() -> BarProgress | LineProgress:
    """A bar where standard error is a terminal, lines otherwise."""
    return BarProgress() if Console(stderr=True).is_terminal else LineProgress()
