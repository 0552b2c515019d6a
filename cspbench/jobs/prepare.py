"""The job that analyses one model and exports the artifacts that are asked for."""

from __future__ import annotations

import importlib
import json
import os
import traceback
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cspbench.core.case import ModelId
from cspbench.errors import CspbenchError, Unsupported
from cspbench.jobs._limits import limit_growth
from cspbench.jobs.spec import JOBS, JobKind, PhaseReport, Request

#: Bounds of an export of a model of a file: its processor time, how many copies of weights and
#: activations exporters and engines make, and the stack of an engine's thread.
EXPORT_SECONDS = 900
COPIES = 8
THREAD_BYTES = 16 * 2**20

#: An artifact on its way to a worker: batch, kind, and the key that it must have.
Item = dict[str, Any]


@dataclass(frozen=True)
class PrepareRequest(Request):
    """Analyse ``model``, a model id, and export its ``artifacts``.

    ``batch`` is the analysis's; ``cache`` says whether a kept one will do. With ``growth_bytes``
    and ``processor_seconds`` the worker bounds what the analysis takes beside what it imports; an
    export may take more, by the size of weights and activations that the analysis found.
    """

    model: str
    seed: int
    artifacts: list[Item]
    batch: int = 1
    cache: bool = True
    growth_bytes: int = 0
    processor_seconds: int = 0
    job: ClassVar[str] = "prepare"


@dataclass(frozen=True)
class PrepareResult:
    """The analysis, and why artifacts cannot be had, by their keys.

    A model that cannot be analysed (``analysis_problem``) can be measured all the same.
    """

    analysis: dict[str, Any] | None = None
    analysis_problem: str = ""
    unsupported: dict[str, str] = field(default_factory=dict)


def perform(request: PrepareRequest, phase: PhaseReport) -> PrepareResult:
    """Do it in this process."""
    model = ModelId.parse(request.model)
    if request.growth_bytes:
        _import_readers(model)
        limit_growth(request.growth_bytes, request.processor_seconds)
    phase("analyze")
    analysis, problem = _analysis(request)
    if request.growth_bytes and request.artifacts:
        limit_growth(request.growth_bytes + _export_bytes(analysis), EXPORT_SECONDS)
    phase("export")
    return PrepareResult(analysis, problem, _export(model, request.artifacts, request.seed))


def _import_readers(model: ModelId) -> None:
    """Import what an analysis needs, before its memory and time are bounded."""
    onnx = model.model.name.startswith("onnx:")
    for name in ("onnx_graph",) if onnx else ("exported", "trace"):
        importlib.import_module(f"cspbench.analysis.{name}")


def _export_bytes(analysis: dict[str, Any] | None) -> int:
    """What exporters and engines may take for a model beside what an analysis may."""
    threads = (os.cpu_count() or 1) * THREAD_BYTES
    totals = analysis["totals"] if analysis else {}
    own = sum(int(totals.get(name, 0)) for name in ("weight_bytes", "peak_live_bytes"))
    return threads + COPIES * own


def _analysis(request: PrepareRequest) -> tuple[dict[str, Any] | None, str]:
    from cspbench.analysis.api import analyze_id

    try:
        analysis = analyze_id(request.model, batch=request.batch, cache=request.cache)
        return json.loads(analysis.to_json()), ""
    except CspbenchError as error:
        return None, str(error)
    except MemoryError:
        return None, f"{request.model}: its analysis needs more memory than it may take"
    except Exception as error:  # whatever a model does, it can be timed without being counted
        traceback.print_exc()
        return None, f"{type(error).__name__}: {error}"[:500]


def _export(model: ModelId, items: list[Item], seed: int) -> dict[str, str]:
    """Write the artifacts; return why those that are missing cannot be had."""
    if not items:
        return {}
    from cspbench.artifacts.cache import ArtifactSpec
    from cspbench.artifacts.export import maker

    make = maker(model, seed)
    reasons = {}
    for item in items:
        spec = ArtifactSpec(model, item["batch"], item["kind"], seed)
        if spec.key != item["key"]:
            raise RuntimeError("the definitions of the models changed while they were measured")
        try:
            make(spec)
        except Unsupported as reason:
            reasons[spec.key] = str(reason)
    return reasons


# Threads that spin while they wait for the next operator take the processor from others: on two
# busy cores the export of a small network took 7 to 15 s, and 2 s without.
JOBS.add(
    JobKind(
        "prepare", "analyse and export a model", PrepareRequest, PrepareResult, perform,
        environment={"OMP_WAIT_POLICY": "PASSIVE"},
    )
)  # fmt: skip
