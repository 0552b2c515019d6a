"""The job that measures peak memory of loading and running one case."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cspbench.core.case import Case
from cspbench.errors import Unavailable
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy
from cspbench.measure.memory import MALLOC_ENVIRONMENT, MemoryUse


@dataclass(frozen=True)
class MemoryRequest(CaseRequest):
    """Measure the memory of one case."""

    job: ClassVar[str] = "memory"


@dataclass(frozen=True)
class MemoryResult:
    """Bytes by what they are for."""

    memory: MemoryUse


def perform(request: MemoryRequest, phase: PhaseReport) -> MemoryResult:
    """Measure it in this process.

    Raises:
        Unavailable: this system does not report a peak.
    """
    from cspbench.backends.spec import Warms
    from cspbench.measure import memory

    reason = memory.unavailable()
    if reason:
        raise Unavailable(reason)
    phase("load")
    backend = request.backend
    importlib.import_module(backend.library)
    if isinstance(backend, Warms):
        backend.warm(request.options)
    return MemoryResult(memory.measure(request.load, request.inputs(2)))


def _column(name: str) -> Callable[[Case, MemoryResult], Any]:
    return lambda _case, result: getattr(result.memory, name)


JOBS.add(
    JobKind(
        "memory", "peak memory of loading and running", MemoryRequest, MemoryResult, perform,
        policy=Policy.AFTER, setting="memory", environment=MALLOC_ENVIRONMENT, on_board=True,
        found=lambda it: f"peak memory {(it.memory.peak_memory_bytes or 0) / 2**20:.1f} MiB",
        columns={name: _column(name) for name in MemoryUse.bytes_names()}
        | {"memory_method": _column("method")},
    )
)  # fmt: skip
