"""Where launches happen: a protocol, so that the runner can be tested with invented times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.measure.memory import MALLOC_ENVIRONMENT
from cspbench.runner.observe import Observer
from cspbench.runner.process import Outcome, WorkerProcess

Job = dict[str, Any]
#: Share of the free memory that a worker may take unless told otherwise.
MEMORY_SHARE = 0.8


class Executor(Protocol):
    """Does jobs; each ``launch`` is a fresh process that does one."""

    def launch(self, job: Job, threads: int, timeout_seconds: float) -> Outcome:
        """Run one job in a process of its own."""

    def series(self, jobs: Sequence[Job], timeout_seconds: float) -> Iterator[Outcome]:
        """Run jobs that are not timed, one after the other, sharing a process where possible."""


class LocalExecutor:
    """Workers on this machine.

    Args:
        memory_limit_bytes: bound of a worker's memory; by default MEMORY_SHARE of what is free.
        allow_code: leave to run code that a model brings (``--allow-code``).
    """

    def __init__(self, memory_limit_bytes: int | None = None, *, allow_code: bool = False) -> None:
        self._allow_code = allow_code
        self._memory_limit = memory_limit_bytes or int(MEMORY_SHARE * _available_bytes())
        self._observer = Observer()

    def launch(self, job: Job, threads: int, timeout_seconds: float) -> Outcome:
        """Start a worker, ask it once, end it; sensors are read while it samples."""
        extra = MALLOC_ENVIRONMENT if job["job"] == "memory" else None
        watch = self._observer.watch(job)
        worker = WorkerProcess(threads, extra=extra)
        try:
            outcome = worker.ask(self._bounded(job), timeout_seconds, watch.phase)
        finally:
            watch.stop()
            worker.close()
        self._observer.add(job, watch, outcome)
        outcome.answer["memory_bound"] = worker.memory_bound
        return outcome

    def series(self, jobs: Sequence[Job], timeout_seconds: float) -> Iterator[Outcome]:
        """One worker for all jobs, a new one after a worker died."""
        worker: WorkerProcess | None = None
        try:
            for job in jobs:
                if worker is not None and not worker.alive:
                    worker.close()
                    worker = None
                worker = worker or WorkerProcess()
                yield worker.ask(self._bounded(job), timeout_seconds)
        finally:
            if worker is not None:
                worker.close()

    def _bounded(self, job: Job) -> Job:
        limits: Job = {
            "memory_limit_bytes": self._memory_limit,
            "allow_code": self._allow_code,
        }
        if DEVICES.get(job.get("device", HOST)).data_limit:
            limits["data_limit_bytes"] = self._memory_limit
        return {**job, **limits}


def _available_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
