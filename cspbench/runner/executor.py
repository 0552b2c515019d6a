"""Where launches happen: a protocol, so that the runner can be tested with invented times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cspbench.core.statuses import Status
from cspbench.jobs.spec import JOBS, Json, Request
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.runner.block_request import MEMORY_SHARE, BlockRequest, available_bytes
from cspbench.runner.observe import Observer
from cspbench.runner.process import NEUTRAL_FOLDER, Outcome, WorkerProcess
from cspbench.runner.room import Needs


class Executor(Protocol):
    """Does what is requested; each ``launch`` is a fresh process that does one job."""

    def launch(self, request: Request, threads: int, timeout_seconds: float) -> Outcome:
        """Run one job in a process of its own."""

    def block(self, request: BlockRequest, timeout_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Time cases together, each in a process of its own.

        Yields:
            number of an arm (or CHECK) and how its launch ended; an arm may come more than once, if
            not all fit into memory together.
        """

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
        self._memory_limit = memory_limit_bytes or int(MEMORY_SHARE * available_bytes())
        self._observer = Observer()
        self._needs = Needs()

    def launch(
        self,
        request: Request,
        threads: int,
        timeout_seconds: float,
        python: str | None = None,
        path: str | None = None,
    ) -> Outcome:
        """Start a worker, ask it once, end it; sensors are read while it samples.

        ``python`` and ``path`` name an environment other than this process's.
        """
        monitor = self._observer.monitor(request)
        reason = self._observer.lacks(request)
        if reason is not None:
            return Outcome(Status.UNAVAILABLE, reason)
        fine = JOBS.get(request.job).powered
        extra = {**getattr(request, "environment", {}), **JOBS.get(request.job).environment}
        worker = WorkerProcess(
            threads, python=python, path=path, folder=NEUTRAL_FOLDER, extra=extra
        )
        try:
            outcome = worker.ask(
                {**request.to_json(), **self._limits(request)}, timeout_seconds,
                lambda phase: monitor.phase(phase, fine=fine),
            )  # fmt: skip
        finally:
            monitor.stop()
            worker.close()
        self._observer.add(request, monitor, outcome)
        outcome.notes["memory_bound"] = worker.memory_bound
        return outcome

    def block(self, request: BlockRequest, timeout_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Time cases together."""
        from cspbench.runner.together import Together

        together = Together(request, timeout_seconds, self._limits, self._observer, self._needs)
        return together.run()

    def series(self, requests: Sequence[Request], timeout_seconds: float) -> Iterator[Outcome]:
        """One worker for all jobs, a new one after a worker died."""
        worker: WorkerProcess | None = None
        try:
            for request in requests:
                if worker is not None and not worker.alive:
                    worker.close()
                    worker = None
                worker = worker or WorkerProcess(extra=JOBS.get(request.job).environment)
                yield worker.ask({**request.to_json(), **self._limits(request)}, timeout_seconds)
        finally:
            if worker is not None:
                worker.close()

    def _limits(self, request: Request) -> Json:
        """Keys of a worker's job that bound it."""
        limits: Json = {
            "memory_limit_bytes": self._memory_limit,
            "allow_code": self._allow_code,
        }
        if DEVICES.get(getattr(request, "device", HOST)).data_limit:
            limits["data_limit_bytes"] = self._memory_limit
        return limits
