"""The job that loads and runs one case once, so that its backend's cache is filled."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

from cspbench.core.bounds import Amount
from cspbench.core.options import Options
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy


@dataclass(frozen=True)
class CompileRequest(CaseRequest):
    """Compile one case."""

    job: ClassVar[str] = "compile"


@dataclass(frozen=True)
class CompileResult:
    """Seconds of loading, compiling and the first inference.

    ``compile_cached`` says that an earlier process had compiled the same: fetching it is not
    compiling it.
    """

    compile_seconds: Amount
    compile_cached: bool = False

    @property
    def compiled_seconds(self) -> float | None:
        """The seconds, unless what was compiled earlier was fetched."""
        return None if self.compile_cached else self.compile_seconds


def perform(request: CompileRequest, phase: PhaseReport) -> CompileResult:
    """Compile it in this process."""
    from cspbench.backends.spec import Compiles
    from cspbench.measure.clock import MonotonicClock

    clock = MonotonicClock()
    backend = request.backend
    importlib.import_module(backend.library)
    [feed] = request.inputs(1)
    phase("compile")
    start = clock.now_ns()
    session = request.load()
    session.set_input(feed)
    session.run()
    seconds = (clock.now_ns() - start) / 1e9
    session.close()
    cached = isinstance(backend, Compiles) and backend.compiled_from_cache()
    return CompileResult(seconds, cached)


def needed(backend: Any, options: Options) -> bool:
    """True if the backend compiles into a cache that stays."""
    from cspbench.backends.spec import Compiles

    return isinstance(backend, Compiles) and backend.compiles(options)


JOBS.add(
    JobKind(
        "compile", "time to compile, with the first inference", CompileRequest, CompileResult,
        perform, policy=Policy.BEFORE, needed=needed, on_board=True,
        found=lambda result: f"compiled in {result.compile_seconds:.1f} s",
        columns={"compile_seconds": lambda _case, result: result.compiled_seconds},
    )
)  # fmt: skip
