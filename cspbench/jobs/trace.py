"""torch.profiler's own trace of a few inferences, kept on request for people who read it.

It is a file of Chrome's trace event format, which ui.perfetto.dev opens: operators, and kernels on
a CUDA device. A launch holds it compressed, so that it comes from a board of a fleet as well.
https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import base64
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from cspbench.core.bounds import Positive
from cspbench.errors import Unsupported
from cspbench.jobs._warm import warmed_up
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

#: Inferences of a trace.
INFERENCES = 3
#: Most bytes of a compressed trace, and of its JSON, which `TraceResult.text` unpacks.
MOST_BYTES, MOST_JSON_BYTES = 4 * 2**20, 256 * 2**20


@runtime_checkable
class TorchTraced(Protocol):
    """Backends whose inferences torch.profiler sees."""

    def profiler_activities(self) -> tuple[str, ...]:
        """Names of `torch.profiler.ProfilerActivity`."""


@dataclass(frozen=True)
class TraceRequest(CaseRequest):
    """Trace a few inferences of one case."""

    job: ClassVar[str] = "trace"


@dataclass(frozen=True)
class TraceResult:
    """A trace of so many inferences by a version of torch: base64 of its compressed JSON (zlib)."""

    inferences: Positive
    torch: str
    trace: str

    def text(self) -> str:
        """The JSON.

        Raises:
            ValueError: what is stored is none.
        """
        unpacking = zlib.decompressobj()
        try:
            packed = base64.b64decode(self.trace, validate=True)
            text = unpacking.decompress(packed, MOST_JSON_BYTES).decode()
        except (zlib.error, ValueError) as error:
            raise ValueError(f"the trace is damaged ({error})") from error
        if not unpacking.eof:
            raise ValueError("the trace is damaged or too large")
        return text


def perform(request: TraceRequest, phase: PhaseReport) -> TraceResult:
    """Run them in this process, under the profiler.

    Raises:
        Unsupported: torch does not run the case, or the trace is too large to keep.
    """
    backend = request.backend
    if not isinstance(backend, TorchTraced):
        raise Unsupported(f"{backend.name} runs nothing that torch.profiler sees")
    import torch
    from torch.profiler import ProfilerActivity, profile

    phase("load")
    pool = request.inputs()
    session = request.load()
    phase("warm-up")
    feed, infer = warmed_up(session, request, pool)
    phase("sample")
    activities = [getattr(ProfilerActivity, name) for name in backend.profiler_activities()]
    with profile(activities=activities) as profiler:
        for number in range(INFERENCES):
            feed(number)
            infer()
    phase("close")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        packed = zlib.compress(file.read_bytes(), 9)
    session.close()
    if len(packed) > MOST_BYTES:
        raise Unsupported(
            f"torch's trace of {INFERENCES} inferences has {len(packed) / 2**20:.0f} MiB, too many "
            "to keep"
        )
    return TraceResult(INFERENCES, torch.__version__, base64.b64encode(packed).decode())


JOBS.add(
    JobKind(
        "trace", "torch.profiler's trace of a few inferences", TraceRequest, TraceResult, perform,
        policy=Policy.AFTER, setting="trace", on_board=True,
        applies=lambda backend, _options: isinstance(backend, TorchTraced),
        found=lambda result: f"trace of {result.inferences} inferences",
    )
)  # fmt: skip
