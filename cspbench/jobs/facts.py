"""The job that says what environment a worker lives in."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

from cspbench.jobs.spec import JOBS, JobKind, PhaseReport, Request


@dataclass(frozen=True)
class FactsRequest(Request):
    """Describe the environment that the worker lives in."""

    job: ClassVar[str] = "facts"


@dataclass(frozen=True)
class FactsResult:
    """Versions in the environment of a worker."""

    python: str
    executable: str
    libraries: dict[str, str]


def perform(_request: FactsRequest, _phase: PhaseReport) -> FactsResult:
    """Look at this environment."""
    from cspbench.backends.spec import libraries
    from cspbench.machine.facts import library_versions

    return FactsResult(sys.version.split()[0], sys.executable, library_versions(libraries()))


JOBS.add(
    JobKind("facts", "versions in the worker's environment", FactsRequest, FactsResult, perform)
)
