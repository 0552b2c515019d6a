"""The job that measures what a device can do at best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from cspbench.analysis.roofline import BANDWIDTH, PRECISION
from cspbench.core.bounds import MOST, Checked, Count, Rate, Within
from cspbench.jobs.spec import JOBS, JobKind, PhaseReport, Request


def _has(name: str) -> Checked:
    def check(rates: dict[str, float]) -> dict[str, float]:
        if name not in rates:
            raise ValueError(f"{name} is missing")
        return rates

    return Checked(check)


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at best, as measured (see ``measure/ceilings.py``).

    ``gflops`` by precision (1e9 floating-point operations a second), ``bandwidth_gbs`` by kind of
    access, ``cache_bandwidth_gbs`` by level (1e9 bytes a second), ``overhead_us`` of one operator.
    """

    gflops: Annotated[dict[str, Rate], _has(PRECISION)]
    bandwidth_gbs: Annotated[dict[str, Rate], _has(BANDWIDTH)]
    #: No operator is dispatched in less than a nanosecond, so no predicted time is 0.
    overhead_us: Annotated[float, Within(1e-3, MOST)]
    cache_bandwidth_gbs: dict[str, Rate] = field(default_factory=dict)
    working_set_bytes: Count = 0
    threads: Count = 0
    name: str | None = None


@dataclass(frozen=True)
class CeilingsRequest(Request):
    """Measure one device with so many threads."""

    device: str
    threads: int
    job: ClassVar[str] = "ceilings"


@dataclass(frozen=True)
class CeilingsResult:
    """What it can do."""

    ceilings: Ceilings


def perform(request: CeilingsRequest, phase: PhaseReport) -> CeilingsResult:
    """Measure it in this process."""
    phase("sample")
    from cspbench.measure.ceilings import measure

    return CeilingsResult(Ceilings(**measure(request.device, request.threads)))


JOBS.add(
    JobKind(
        "ceilings", "what a device can do at best", CeilingsRequest, CeilingsResult, perform,
        on_board=True,
    )
)  # fmt: skip
