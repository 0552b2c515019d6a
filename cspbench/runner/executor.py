"""Where launches happen: a protocol, so that the runner can be tested with invented times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cspbench.jobs.spec import JOBS, Json, Request
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.runner.observe import Observer
from cspbench.runner.process import NEUTRAL_FOLDER, Outcome, WorkerProcess

#: Share of the free memory that a worker may take unless told otherwise.
MEMORY_SHARE = 0.8


class Executor(Protocol):
    """Does what is requested; each ``launch`` is a fresh process that does one job."""

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Run one job in a process of its own."""

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
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

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Start a worker, ask it once, end it; sensors are read while it samples."""
        monitor = self._observer.monitor(request)
        worker = WorkerProcess(
            threads, folder=NEUTRAL_FOLDER, extra=JOBS.get(request.job).environment
        )
        try:
            outcome = worker.ask(self._bounded(request), timeout_seconds, monitor.phase)
        finally:
            monitor.stop()
            worker.close()
        self._observer.add(request, monitor, outcome)
        outcome.notes["memory_bound"] = worker.memory_bound
        return outcome

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
        """One worker for all jobs, a new one after a worker died."""
        worker: WorkerProcess | None = None
        try:
            for request in requests:
                if worker is not None and not worker.alive:
                    worker.close()
                    worker = None
                worker = worker or WorkerProcess()
                yield worker.ask(self._bounded(request), timeout_seconds)
        finally:
            if worker is not None:
                worker.close()

    def _bounded(self, request: Request) -> Json:
        limits: Json = {
            "memory_limit_bytes": self._memory_limit,
            "allow_code": self._allow_code,
        }
        if DEVICES.get(getattr(request, "device", HOST)).data_limit:
            limits["data_limit_bytes"] = self._memory_limit
        return {**request.to_json(), **limits}


def _available_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
