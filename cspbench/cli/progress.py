"""Progress of a run: a live bar in a terminal, one line a case elsewhere (CI logs).

Everything goes to standard error, so that standard output stays data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from cspbench.cli.first_block import FirstBlock
from cspbench.cli.reporter import Reporter
from cspbench.core.output import guard_streams, raw_stderr, say
from cspbench.core.text import inert, number_of, printable
from cspbench.jobs.spec import JOBS, Policy
from cspbench.jobs.time import TimeResult
from cspbench.machine.sensors.proc import between, read_cpu_times
from cspbench.runner.plan import Plan
from cspbench.runner.progress import Progress, Silent
from cspbench.store.launch import Launch

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Load and steal are looked at no more often than this.
_NOISE_SECONDS = 2.0
#: The bar is drawn so often; more would disturb what is measured beside it.
_FRAMES_A_SECOND = 2


class Display(Progress, Protocol):
    """Progress that must be closed."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def launch_text(launch: Launch) -> str:
    """What a launch found, in a few words."""
    if not launch.good:
        return f"{launch.status}: {launch.reason}"
    flags = f" [{', '.join(launch.flags)}]" if launch.flags else ""
    return f"{JOBS.get(launch.job).found(launch.result)}{flags}"


def _counts(launch: Launch) -> bool:
    """Whether it is one of the launches that a run announces: rounds, and those after them."""
    return JOBS.get(launch.job).policy in (Policy.ROUNDS, Policy.AFTER)


def duration_text(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Noise:
    """Load of the last minute, and the share of the processors' time that was stolen."""

    def __init__(self) -> None:
        self._before = read_cpu_times()
        self._text = self._describe(0.0)

    def text(self) -> str:
        """``load 1.3, steal 0 %``; empty where the system does not tell."""
        now = read_cpu_times()
        times = between(self._before, now)
        if times is not None and times.seconds >= _NOISE_SECONDS:
            share = times.steal_s / times.seconds / (os.cpu_count() or 1)
            self._before, self._text = now, self._describe(share)
        return self._text

    def _describe(self, steal: float) -> str:
        if self._before is None:
            return ""
        return f"load {os.getloadavg()[0]:.1f}, steal {100 * steal:.0f} %"


class Lines(Silent):
    """Lines for logs: one a case once it is measured, one a round, and one a failed launch."""

    def __init__(self) -> None:
        self._noise = Noise()
        self._done = 0
        self._start = 0.0
        self._cases = self._rounds = 0
        self._found: dict[str, list[float]] = {}
        self._first = FirstBlock()

    def preparing(self, model: str, done: int, total: int) -> None:
        """A model is being exported."""
        say(f"preparing {done + 1}/{total} {model}", err=True)

    def started(self, plan: Plan, launches: int) -> None:
        """Remember how much there is to do."""
        self._done, self._start, self._found = 0, time.monotonic(), {}
        self._cases, self._rounds = len(plan.runnable), plan.suite.measure.rounds
        self._first.started(plan)
        skipped = len(plan.cases) - self._cases
        many = number_of(self._cases, "case"), number_of(launches, "launch")
        text = f"{plan.suite.name}: {', '.join(many)}"
        unable = f", {number_of(skipped, 'case')} not runnable here" if skipped else ""
        say(text + unable, err=True)

    def on_board(self, board: str, state: str, what: str) -> None:
        """Say what a board waits for; what it measures is said when it is measured."""
        if state == "waiting":
            say(f"{board}: {what}", err=True)

    def launched(self, launch: Launch, left: int) -> None:
        """Tell what stands now: a failure, a measured case, the end of a round."""
        if not launch.good:
            say(f"{launch.case}: {launch_text(launch)}", err=True)
        elif isinstance(launch.result, TimeResult):
            medians = self._found.setdefault(launch.case, [])
            medians.append(launch.result.median_ms)
            if len(medians) == self._rounds:  # a disturbed launch may still be repeated
                say(f"{launch.case}: {_case_text(medians)}", err=True)
        for line in self._first.launched(launch):
            say(line, err=True)
        if not _counts(launch):
            return
        self._done += 1
        if left and self._cases and self._done % self._cases == 0:
            parts = [f"{self._done} of {self._done + left} launches", self._left(left)]
            say(f"  {', '.join(filter(None, [*parts, self._noise.text()]))}", err=True)

    def _left(self, left: int) -> str:
        return f"{duration_text((time.monotonic() - self._start) / self._done * left)} left"

    def close(self) -> None:
        """Nothing to clean up."""


class LaunchLines(Lines):
    """One line a launch."""

    def launched(self, launch: Launch, left: int) -> None:
        """Print what it found, when all will be done, and what disturbed it."""
        if not _counts(launch):
            say(f"{launch.case}: {launch_text(launch)}", err=True)
            return
        self._done += 1
        seconds = (time.monotonic() - self._start) / self._done * left
        say(
            f"[{self._done}/{self._done + left}, {seconds:.0f} s left] "
            f"{launch.case}: {launch_text(launch)}{_details(launch)}",
            err=True,
        )


def _case_text(medians_ms: list[float]) -> str:
    apart = 100 * (max(medians_ms) / min(medians_ms) - 1)
    many = number_of(len(medians_ms), "launch")
    apart_by = f", {apart:.1f} % apart" if len(medians_ms) > 1 else ""
    return f"{median(medians_ms):.2f} ms ({many}{apart_by})"


def _details(launch: Launch) -> str:
    result = launch.result
    if not isinstance(result, TimeResult):
        return ""
    parts = [f"{len(result.latencies_ns)} samples"]
    noise = result.interference
    if noise:
        parts.append(f"load {noise.load_1m_after:.1f}, steal {noise.steal_s:.2f} s, "
                     f"others {noise.foreign_cpu_s:.2f} s")  # fmt: skip
    return f" ({', '.join(parts)})"


class Bar(Silent):
    """A bar, and below it the noise of the machine and the current case with its estimate.

    In a fleet there is one line a board instead.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.segment import Segment
        from rich.text import Text

        noise = Noise()

        class InertConsole(Console):
            def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
                """What is drawn, its text inert; the sequences around it are rich's."""
                for one in super().render(renderable, options):
                    yield one if one.control else Segment(inert(one.text), one.style)

        class WithCase(Progress):
            now = ""

            def __init__(self, *columns: Any, **options: Any) -> None:
                self.boards: dict[str, str] = {}
                super().__init__(*columns, **options)

            def get_renderables(self) -> Iterable[RenderableType]:
                """The bar and the line below it, which is cut where the terminal ends."""
                yield self.make_tasks_table(self.tasks)
                lines = ["  ".join(filter(None, (noise.text(), self.now)))]
                if self.boards:
                    lines = board_lines(self.boards, self.console.height - 2)
                for line in lines:
                    yield Text(printable(line), no_wrap=True, overflow="ellipsis")

        self._medians: dict[str, list[float]] = {}
        self._first = FirstBlock()
        self._done = 0
        self._bar = WithCase(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=InertConsole(file=raw_stderr(), stderr=True),
            refresh_per_second=_FRAMES_A_SECOND,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, start=False)

    def _start(self) -> None:
        self._bar.start()
        guard_streams()  # rich puts its own streams in their place until the bar stops

    def preparing(self, model: str, done: int, total: int) -> None:
        """Show which model is being exported."""
        self._start()  # not before: we may have waited for another run, and said so
        self._bar.now = model
        self._bar.update(self._task, description="preparing", completed=done, total=total)

    def started(self, plan: Plan, launches: int) -> None:
        """Start the bar of launches."""
        self._start()
        self._done, self._bar.now = 0, ""
        self._first.started(plan)
        self._bar.reset(self._task, total=launches, description=printable(plan.suite.name))

    def launching(self, case_id: str) -> None:
        """Show the case with the median of its launches so far."""
        seen = self._medians.get(case_id)
        so_far = f" {median(seen):.2f} ms so far" if seen else ""
        self._bar.now = f"{case_id}{so_far}"

    def taking_turns(self, case_ids: Sequence[str]) -> None:
        """Show how many cases live together."""
        self._bar.now = f"{len(case_ids)} cases in turn"

    def on_board(self, board: str, state: str, what: str) -> None:
        """Show it in the line of the board."""
        self._bar.boards[board] = what if state == "measuring" else f"{state}: {what}"

    def launched(self, launch: Launch, left: int) -> None:
        """Advance; keep the estimate; let failures stand above the bar."""
        if isinstance(launch.result, TimeResult):
            self._medians.setdefault(launch.case, []).append(launch.result.median_ms)
        elif not launch.good:
            self._print(f"{launch.case}: {launch_text(launch)}")
        for line in self._first.launched(launch):
            self._print(line)
        if _counts(launch):
            self._done += 1
            self._bar.update(self._task, completed=self._done, total=self._done + left)

    def _print(self, line: str) -> None:
        """A line above the bar."""
        self._bar.console.print(printable(line), markup=False, highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def board_lines(boards: Mapping[str, str], most: int) -> list[str]:
    """One line a board, in the order of their names; at most so many, and then how many more."""
    width = max(map(len, boards))
    lines = [f"{name:{width}}  {boards[name]}" for name in sorted(boards)]
    most = max(2, most)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{len(lines) - most + 1} more"]


class Quiet(Silent):
    """Says nothing."""

    def close(self) -> None:
        """Nothing to clean up."""


class Logged:
    """Another display, and the log of events."""

    def __init__(self, shown: Display, reporter: Reporter) -> None:
        self._shown = shown
        self._reporter = reporter

    def preparing(self, model: str, done: int, total: int) -> None:
        """Event ``preparing``."""
        self._reporter.event("preparing", model=model, done=done, total=total)
        self._shown.preparing(model, done, total)

    def started(self, plan: Plan, launches: int) -> None:
        """Event ``started``."""
        refused = [case.id for case in plan.cases if case.status is not None]
        self._reporter.event("started", suite=plan.suite.name, cases=len(plan.runnable),
                         launches=launches, not_runnable=refused)  # fmt: skip
        self._shown.started(plan, launches)

    def launching(self, case_id: str) -> None:
        """Event ``launching``."""
        self._reporter.event("launching", case=case_id)
        self._shown.launching(case_id)

    def taking_turns(self, case_ids: Sequence[str]) -> None:
        """Event ``block``."""
        self._reporter.event("block", cases=list(case_ids))
        self._shown.taking_turns(case_ids)

    def on_board(self, board: str, state: str, what: str) -> None:
        """Event ``board``."""
        self._reporter.event("board", board=board, state=state, what=what)
        self._shown.on_board(board, state, what)

    def launched(self, launch: Launch, left: int) -> None:
        """Event ``launched``."""
        self._reporter.event("launched", **launch_event(launch), left=left)
        self._shown.launched(launch, left)

    def close(self) -> None:
        """Close what is shown."""
        self._shown.close()


def launch_event(launch: Launch) -> dict[str, Any]:
    """A launch without its samples, which are in ``launches.jsonl``."""
    names = ("case", "job", "number", "status", "reason", "flags", "seconds")
    event = {name: getattr(launch, name) for name in names}
    result = launch.result
    if isinstance(result, TimeResult):
        event["stop"] = result.stop
        event["median_ms"] = result.median_ms
        event["samples"] = len(result.latencies_ns)
        event["interference"] = asdict(result.interference) if result.interference else None
    return event


def display_for(reporter: Reporter) -> Display:
    """A bar where standard error is a terminal, lines otherwise, or nothing."""
    shown: Display
    if reporter.quiet:
        shown = Quiet()
    elif reporter.verbose:
        shown = LaunchLines()
    else:
        from rich.console import Console

        shown = Bar() if Console(stderr=True).is_terminal else Lines()
    return Logged(shown, reporter)
