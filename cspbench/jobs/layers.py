"""The job that profiles the layers of one case with its backend's own profiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cspbench.core.bounds import Checked, Count, FirstWrong, Positive
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

#: An entry: name, operator, ns, names of the artifact's nodes that it holds.
Entry = tuple[str, str, Count, list[str]]
#: A node: name, operator, numbers of the nodes that feed it, other names.
NodeRow = tuple[str, str, list[Count], list[str]]


def _producers_exist(nodes: list[NodeRow]) -> list[NodeRow]:
    """Check that what feeds a node is one of them."""
    last = max((number for _, _, producers, _ in nodes for number in producers), default=-1)
    if last >= len(nodes):
        raise ValueError("a producer is no node")
    return nodes


@dataclass(frozen=True)
class LayersRequest(CaseRequest):
    """Profile the layers of one case."""

    job: ClassVar[str] = "layers"


@dataclass(frozen=True)
class LayerTimes:
    """The profiler's entries, and the nodes of the artifact in their order to join them by.

    ``total_ns`` is the median of the whole inference with the profiler at work.
    """

    entries: Annotated[list[Entry], FirstWrong()]
    nodes: Annotated[list[NodeRow], FirstWrong(), Checked(_producers_exist)]
    total_ns: Positive
    runs: Count = 0
    method: str = ""


@dataclass(frozen=True)
class LayersResult:
    """Times of layers."""

    layers: LayerTimes


def perform(request: LayersRequest, phase: PhaseReport) -> LayersResult:
    """Profile them in this process.

    Raises:
        Unsupported: the backend has no profiler, or cannot tell layers apart with these options.
    """
    from cspbench.artifacts.spec import ARTIFACTS
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, LayerProfiler

    case = request.case
    backend = BACKENDS.get(case.backend.name)
    if not isinstance(backend, LayerProfiler):
        raise Unsupported(f"{backend.name} has no layer profiler")
    pool = input_pool(case.input_shape, request.seed)
    phase("sample")
    found = backend.profile_layers(
        request.artifact, request.options, case.threads, pool, request.max_seconds
    )
    phase("close")
    read_nodes = ARTIFACTS.get(backend.artifact).nodes
    nodes = read_nodes(request.artifact) if read_nodes is not None else []
    return LayersResult(
        LayerTimes(
            entries=[(e.name, e.op, e.ns, list(e.members)) for e in found.entries],
            nodes=[(n.name, n.op, list(n.producers), list(n.aliases)) for n in nodes],
            total_ns=found.total_ns,
            runs=found.runs,
            method=found.method,
        )
    )


JOBS.add(
    JobKind(
        "layers", "time of each layer, by the backend's own profiler", LayersRequest, LayersResult,
        perform, policy=Policy.AFTER, setting="layers", sampling=True, on_board=True,
        found=lambda result: f"{len(result.layers.entries)} layer times",
    )
)  # fmt: skip
