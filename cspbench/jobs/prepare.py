"""The job that analyses one model and exports the artifacts that are asked for."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from cspbench.core.case import ModelId
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS, JobKind, PhaseReport, Request

if TYPE_CHECKING:
    from cspbench.artifacts.cache import ArtifactSpec

#: An artifact on its way to a worker: batch, kind, and the key that it must have.
Item = dict[str, Any]


@dataclass(frozen=True)
class PrepareRequest(Request):
    """Analyse ``model``, a model id, and export its ``artifacts``."""

    model: str
    seed: int
    artifacts: list[Item]
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
    phase("analyze")
    analysis, problem = _analysis(request.model)
    phase("export")
    return PrepareResult(analysis, problem, _export(model, request.artifacts, request.seed))


def _analysis(model: str) -> tuple[dict[str, Any] | None, str]:
    from cspbench.analysis.api import analyze_id

    try:
        return json.loads(analyze_id(model).to_json()), ""
    except Exception as error:  # whatever a model does, it can be timed without being counted
        traceback.print_exc()
        return None, f"{type(error).__name__}: {error}"[:500]


def _export(model: ModelId, items: list[Item], seed: int) -> dict[str, str]:
    """Write the artifacts; return why those that are missing cannot be had."""
    if not items:
        return {}
    from cspbench.artifacts.cache import ArtifactSpec
    from cspbench.models.build import split_source

    source = split_source(model.model.name)
    make = _importer() if source and source[0].artifact == "onnx" else _exporter(model, seed)
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


def _importer() -> Callable[[ArtifactSpec], None]:
    """What takes a file that is an artifact already."""
    from cspbench.artifacts.import_onnx import adopt_onnx

    return adopt_onnx


def _exporter(model: ModelId, seed: int) -> Callable[[ArtifactSpec], None]:
    """What exports a model that is built once for all its artifacts."""
    from cspbench.artifacts.export import build_model, prepare

    module = build_model(model, seed)
    return lambda spec: prepare(spec, module)


JOBS.add(JobKind("prepare", "analyse and export a model", PrepareRequest, PrepareResult, perform))
