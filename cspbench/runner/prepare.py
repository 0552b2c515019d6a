"""Preparation, one for all that measures: analyse models, export what artifacts are missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from cspbench.analysis.api import cached_analysis
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.core.statuses import Status
from cspbench.jobs.prepare import PrepareRequest, PrepareResult
from cspbench.jobs.spec import Json
from cspbench.runner.executor import Executor
from cspbench.runner.process import Outcome

#: Bound of building and exporting one model.
PREPARE_TIMEOUT_SECONDS = 900.0


@dataclass
class Preparation:
    """What came of it.

    ``analyses`` are those that are new, by model id; ``problems`` say why artifacts cannot be had,
    by artifact key.
    """

    analyses: dict[str, Json] = field(default_factory=dict)
    problems: dict[str, Outcome] = field(default_factory=dict)


def prepare(
    models: Iterable[str],
    artifacts: Iterable[ArtifactSpec],
    executor: Executor,
    seed: int,
    analysed: Collection[str] = (),
    preparing: Callable[[str, int, int], None] = lambda _model, _done, _total: None,
) -> Preparation:
    """Make what is missing, in one worker that is replaced if it dies.

    Args:
        models: ids of the models whose analysis is wanted.
        artifacts: what must lie in the cache.
        executor: where to build; nothing is timed.
        seed: of the weights.
        analysed: models whose analysis is known already.
        preparing: is told of each model, with how many are done and how many there are.
    """
    artifacts = list(artifacts)
    missing: dict[str, dict[str, ArtifactSpec]] = {
        model: {} for model in models if model not in analysed
    }
    for spec in artifacts:
        if not spec.ready:
            missing.setdefault(str(spec.model), {})[spec.key] = spec
    found = Preparation()
    for model in [model for model, specs in missing.items() if not specs]:
        known = cached_analysis(model)
        if known is not None:
            found.analyses[model] = json.loads(known.to_json())
            del missing[model]
    requests = [_request(model, specs.values(), seed) for model, specs in missing.items()]
    outcomes = executor.series(requests, PREPARE_TIMEOUT_SECONDS)
    for number, request in enumerate(requests):
        preparing(request.model, number, len(requests))
        _note(found, request.model, missing[request.model], next(outcomes))
    for spec in artifacts:
        spec.settle()
    return found


def _request(model: str, specs: Iterable[ArtifactSpec], seed: int) -> PrepareRequest:
    return PrepareRequest(model, seed, [spec.item for spec in specs])


def _note(found: Preparation, model: str, keys: Iterable[str], outcome: Outcome) -> None:
    result: PrepareResult | None = outcome.checked(PrepareRequest.job)
    if result is None:
        found.problems |= dict.fromkeys(keys, outcome)
        return
    if result.analysis is not None:
        found.analyses[model] = result.analysis
    for key in keys:
        if key in result.unsupported:
            found.problems[key] = Outcome(Status.UNSUPPORTED, result.unsupported[key])
