"""Where launches happen: a protocol, so that the runner can be tested with invented times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from cspbench.runner.process import Outcome, WorkerProcess

Job = dict[str, Any]


class Executor(Protocol):
    """Does jobs; each ``launch`` is a fresh process that does one."""

    def launch(self, job: Job, threads: int, timeout_seconds: float) -> Outcome:
        """Run one job in a process of its own."""

    def series(self, jobs: Sequence[Job], timeout_seconds: float) -> Iterator[Outcome]:
        """Run jobs that are not timed, one after the other, sharing a process where possible."""


class LocalExecutor:
    """Workers on this machine."""

    def launch(self, job: Job, threads: int, timeout_seconds: float) -> Outcome:
        """Start a worker, ask it once, end it."""
        worker = WorkerProcess(threads)
        try:
            return worker.ask(job, timeout_seconds)
        finally:
            worker.close()

    def series(self, jobs: Sequence[Job], timeout_seconds: float) -> Iterator[Outcome]:
        """One worker for all jobs, a new one after a worker died."""
        worker: WorkerProcess | None = None
        try:
            for job in jobs:
                if worker is not None and not worker.alive:
                    worker.close()
                    worker = None
                worker = worker or WorkerProcess()
                yield worker.ask(job, timeout_seconds)
        finally:
            if worker is not None:
                worker.close()
