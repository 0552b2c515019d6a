"""The job that profiles the layers of one case with its backend's own profiler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cspbench.core.bounds import Checked, Count, FirstWrong, Positive
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

#: An entry: name, operator, ns, names of the artifact's nodes in it.
Entry = tuple[str, str, Count, list[str]]
#: A node: name, operator, numbers of the nodes that feed it, other names.
NodeRow = tuple[str, str, list[Count], list[str]]


def _producers_exist(nodes: list[NodeRow]) -> list[NodeRow]:
    """Check that what feeds a node is one of them."""
    last = max((number for _, _, producers, _ in nodes for number in producers), default=-1)
    if last >= len(nodes):
        raise ValueError("a producer is not a node")
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
        Unsupported: the backend has no profiler, or cannot time single layers with these options.
    """
    from cspbench.artifacts.spec import ARTIFACTS
    from cspbench.backends.spec import LayerProfiler

    backend = request.backend
    if not isinstance(backend, LayerProfiler):
        raise Unsupported(f"{backend.name} has no layer profiler")
    work = request.workload()
    phase("sample")
    profile = backend.profile_layers(work)
    phase("close")
    read_nodes = ARTIFACTS.get(backend.artifact).nodes
    nodes = read_nodes(request.artifact) if read_nodes is not None else []
    return LayersResult(
        LayerTimes(
            entries=[(e.name, e.op, e.ns, list(e.members)) for e in profile.entries],
            nodes=[(n.name, n.op, list(n.producers), list(n.aliases)) for n in nodes],
            total_ns=profile.total_ns,
            runs=profile.runs,
            method=profile.method,
        )
    )


JOBS.add(
    JobKind(
        "layers", "time of each layer, by the backend's own profiler", LayersRequest, LayersResult,
        perform, policy=Policy.AFTER, setting="layers", sampling=True, on_board=True,
        found=lambda result: f"{len(result.layers.entries)} layer times",
    )
)  # fmt: skip
