"""The job that asks a backend's loader whether it takes a model, and runs it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cspbench.core.bounds import Count
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport


@dataclass(frozen=True)
class ProbeRequest(CaseRequest):
    """Load one case and run it once; nothing is timed."""

    job: ClassVar[str] = "probe"


@dataclass(frozen=True)
class ProbeResult:
    """How many outputs it has."""

    outputs: Count


def perform(request: ProbeRequest, phase: PhaseReport) -> ProbeResult:
    """Do it in this process.

    Raises:
        Unsupported: the backend cannot run the model.
    """
    phase("load")
    [feed] = request.inputs(1)
    session = request.load()
    phase("warm-up")
    session.set_input(feed)
    session.run()
    outputs = len(session.outputs())
    session.close()
    return ProbeResult(outputs)


JOBS.add(JobKind("probe", "load a case and run it once", ProbeRequest, ProbeResult, perform))
