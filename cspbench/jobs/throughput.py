"""The job that runs a case with as many inferences under way as its backend can overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cspbench.backends.spec import Throughput
from cspbench.core.case import Case
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy


@dataclass(frozen=True)
class ThroughputRequest(CaseRequest):
    """Measure the throughput of one case."""

    job: ClassVar[str] = "throughput"


@dataclass(frozen=True)
class ThroughputResult:
    """Inferences and the time that they took."""

    throughput: Throughput


def perform(request: ThroughputRequest, phase: PhaseReport) -> ThroughputResult:
    """Measure it in this process.

    Raises:
        Unsupported: the case has another scope than a plain inference.
    """
    from cspbench.backends.common.throughput import back_to_back
    from cspbench.backends.spec import Pipelines
    from cspbench.measure.scope import INFERENCE, scope_of

    if scope_of(request.options) != INFERENCE:
        raise Unsupported("throughput is that of scope inference")
    backend, work = request.backend, request.workload()
    phase("sample")
    if isinstance(backend, Pipelines):
        return ThroughputResult(backend.throughput(work))
    return ThroughputResult(back_to_back(backend, work))


def _fps(case: Case, result: ThroughputResult) -> float:
    return 1e9 * case.batch * result.throughput.inferences / result.throughput.ns


def _method(_case: Case, result: ThroughputResult) -> str:
    return f"{result.throughput.method}, {result.throughput.in_flight} in flight"


JOBS.add(
    JobKind(
        "throughput", "images a second with inferences overlapped", ThroughputRequest,
        ThroughputResult, perform, policy=Policy.AFTER, setting="throughput", sampling=True,
        on_board=True,
        found=lambda result: (
            f"{result.throughput.inferences} inferences, "
            f"up to {result.throughput.in_flight} at a time"
        ),
        columns={"throughput_fps": _fps, "throughput_method": _method},
    )
)  # fmt: skip
