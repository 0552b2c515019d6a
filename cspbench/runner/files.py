"""Models of files, which may be untrusted: analysed and exported in a worker with bounds.

Their readers are libraries of millions of lines. Whatever a file does to them, the command goes on
and ends with a sentence. Models of the zoo are our own, so they need no worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cspbench.analysis.api import analyze_id, cached_analysis
from cspbench.analysis.record import Analysis
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import prepare as export_here
from cspbench.core.case import ModelId
from cspbench.errors import InputError, Unavailable, Unsupported
from cspbench.jobs.prepare import PrepareRequest, PrepareResult
from cspbench.models.build import as_model_id, own_batch, split_source
from cspbench.models.identity import source_files
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.prepare import PREPARE_TIMEOUT_SECONDS
from cspbench.runner.process import Outcome

#: What an analysis may take beside what the worker imports: this, and so many bytes for each of the
#: model's files, which hold its weights. An export may take more, as the job says.
GROWTH_BYTES = 256 * 2**20
GROWTH_OF_FILES = 4
PROCESSOR_SECONDS = 20
#: Of a phase, by the clock; on a slow board the import of torch is one that takes long.
TIMEOUT_SECONDS = 120.0


def is_of_file(model: ModelId) -> bool:
    """True if files define the model, unless they are the user's own code (``python:``)."""
    source = split_source(model.model.name)
    return source is not None and source[0].name != "python" and bool(source_files(model))


def analyze_models(
    models: Sequence[str],
    *,
    batch: int | None = None,
    cache: bool = True,
    allow_code: bool = False,
) -> list[Analysis]:
    """Analyse models in their order, those of files in one worker.

    Args:
        models: ids, or paths of models' files.
        batch: batch size; the one that a model's file fixes, or 1, without.
        cache: whether kept analyses will do.
        allow_code: whether models may run code that is not cspbench's.

    Raises:
        InputError: a model cannot be analysed.
    """
    models = [str(as_model_id(model)) for model in models]
    batches = {model: batch or own_batch(model) for model in models}
    known = {
        model: cached_analysis(model, batch=batches[model]) if cache else None for model in models
    }
    missing = [
        model for model, one in known.items() if one is None and is_of_file(ModelId.parse(model))
    ]
    if missing:
        requests = [_request(model, batches[model], cache) for model in missing]
        outcomes = LocalExecutor(allow_code=allow_code).series(requests, TIMEOUT_SECONDS)
        for model, outcome in zip(missing, outcomes, strict=True):
            known[model] = _analysis(model, outcome)
    return [known[model] or _analyze_here(model, batches[model], cache) for model in models]


def _request(model: str, batch: int, cache: bool) -> PrepareRequest:
    files = [path for path in source_files(ModelId.parse(model)) if path.is_file()]
    growth = GROWTH_BYTES + GROWTH_OF_FILES * sum(path.stat().st_size for path in files)
    return PrepareRequest(model, 0, [], batch, cache, growth, PROCESSOR_SECONDS)


def _analysis(model: str, outcome: Outcome) -> Analysis:
    result: PrepareResult | None = outcome.checked(PrepareRequest.job)
    if result is None:
        raise InputError(f"{model}: cannot be analysed: {outcome.reason}")
    if result.analysis is None:
        raise InputError(result.analysis_problem.splitlines())
    return Analysis.from_dict(result.analysis).complete()


def _analyze_here(model: str, batch: int, cache: bool) -> Analysis:
    try:
        return analyze_id(model, batch=batch, cache=cache)
    except (Unavailable, Unsupported) as error:
        raise InputError(f"{model}: {error}") from error


def export_model(spec: ArtifactSpec, *, allow_code: bool = False) -> None:
    """Put an artifact into the cache, that of a model of a file in a worker with bounds.

    Raises:
        InputError: it cannot be made.
    """
    reason = _problem_in_worker(spec, allow_code) if is_of_file(spec.model) else _problem(spec)
    if reason:
        raise InputError(f"{spec.model} cannot be exported: {reason}")


def _problem(spec: ArtifactSpec) -> str:
    try:
        export_here(spec)
    except Unsupported as reason:
        return str(reason)
    return ""


def _problem_in_worker(spec: ArtifactSpec, allow_code: bool) -> str:
    request = _request(str(spec.model), spec.batch, cache=True)
    request = replace(request, seed=spec.seed, artifacts=[spec.item])
    [outcome] = LocalExecutor(allow_code=allow_code).series([request], PREPARE_TIMEOUT_SECONDS)
    result: PrepareResult | None = outcome.checked(PrepareRequest.job)
    return outcome.reason if result is None else result.unsupported.get(spec.key, "")
