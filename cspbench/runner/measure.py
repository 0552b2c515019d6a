"""Measure planned runs one after another, alone on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.machine import lock
from cspbench.runner import run as runs
from cspbench.store.rundir import RunDirectory, StoredRun, read_run

if TYPE_CHECKING:
    from cspbench.runner.executor import Executor
    from cspbench.runner.plan import Plan
    from cspbench.runner.progress import Progress
    from cspbench.store.launch import Launch


@dataclass(frozen=True)
class RunTask:
    """A planned run; ``stored`` is what it goes on with, if it is resumed."""

    plan: Plan
    stored: StoredRun | None = None


def measure(
    tasks: Sequence[RunTask],
    results: Path,
    executor: Executor | None = None,
    progress: Progress | None = None,
    *,
    wait: bool = True,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Measure the tasks; each run's directory is yielded as soon as it exists.

    So the caller knows what there is, whatever ends the measuring.

    Args:
        tasks: what to measure.
        results: directory for new run directories.
        executor: where to launch; this machine by default.
        progress: gets every event.
        wait: wait while another run measures on this machine.
        waiting: gets the sentence that says so.

    Raises:
        InputError: another run measures and ``wait`` is False, or nothing can be written.
        KeyboardInterrupt: the workers are ended, what was measured is on disk.
    """
    what = ", ".join(task.plan.suite.name for task in tasks)
    with lock.timing_lock(what, wait=wait, waiting=waiting):
        for task in tasks:
            # Read again: while we waited for the lock another session may have gone on with it.
            before: Sequence[Launch] = ()
            if task.stored:
                directory = RunDirectory(task.stored.path)
                directory.recover_block()
                before = read_run(directory.path).launches
            else:
                directory = runs.new_run(task.plan, results)
            yield directory.path
            runs.execute(task.plan, directory, before, executor, progress)
