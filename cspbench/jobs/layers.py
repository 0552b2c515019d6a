"""Times of single layers by the backend's own profiler: the job of one case, and its result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from cspbench.core.bounds import Checked, Count, FirstWrong, Positive
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import LayerProfile, LayerSession

#: Fewest and most profiled inferences, and those before the first that counts.
MIN_RUNS, MAX_RUNS, WARM_RUNS = 5, 200, 2
#: Lists of entries and nodes, of which a launch may hold no more (``store/lines.py``).
MOST_LISTS = 18_000
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

    Times are means over ``runs`` inferences; ``total_ns`` is that of the whole inference with the
    profiler at work, of which ``between_ns`` (0 where it is not known) is from entry to entry.
    """

    entries: Annotated[list[Entry], FirstWrong()]
    nodes: Annotated[list[NodeRow], FirstWrong(), Checked(_producers_exist)]
    total_ns: Positive
    runs: Count = 0
    method: str = ""
    between_ns: Count = 0


@dataclass(frozen=True)
class LayersResult:
    """Times of layers."""

    layers: LayerTimes


def perform(request: LayersRequest, phase: PhaseReport) -> LayersResult:
    """Profile them in this process.

    Raises:
        Unsupported: the backend has no profiler, or cannot time single layers with these options.
    """
    session, inputs = load_profiled(request), request.inputs()
    phase("sample")
    warm_up(session, inputs)
    end = time.monotonic() + request.max_seconds
    for count in range(MAX_RUNS):
        if count >= MIN_RUNS and time.monotonic() >= end:
            break
        session.run(inputs[count % len(inputs)])
    phase("close")
    return LayersResult(layer_times(request, session.profile()))


def load_profiled(request: CaseRequest) -> LayerSession:
    """Load the artifact of a case with its backend's profiler on.

    Raises:
        Unsupported: the backend has none, or cannot time single layers with these options.
    """
    from cspbench.backends.spec import LayerProfiler

    backend = request.backend
    if not isinstance(backend, LayerProfiler):
        raise Unsupported(f"{backend.name} has no layer profiler")
    return backend.load_profiled(request.artifact, request.options, request.case.threads)


def warm_up(session: LayerSession, inputs: Sequence[Feed]) -> None:
    """Run the first inferences, which do not count."""
    for count in range(WARM_RUNS):
        session.run(inputs[count % len(inputs)])
    session.begin()


def layer_times(request: CaseRequest, profile: LayerProfile) -> LayerTimes:
    """A profile with the nodes of its artifact.

    Raises:
        Unsupported: it has more entries than a launch may hold.
    """
    from cspbench.artifacts.spec import ARTIFACTS

    read_nodes = ARTIFACTS.get(request.backend.artifact).nodes
    nodes = read_nodes(request.artifact) if read_nodes is not None else []
    if 2 * len(profile.entries) + 3 * len(nodes) > MOST_LISTS:
        many = f"{len(profile.entries):,} entries in {profile.method}"
        raise Unsupported(f"an inference has {many}, too many to keep")
    return LayerTimes(
        entries=[(e.name, e.op, e.ns, list(e.members)) for e in profile.entries],
        nodes=[(n.name, n.op, list(n.producers), list(n.aliases)) for n in nodes],
        total_ns=profile.total_ns,
        runs=profile.runs,
        method=profile.method,
        between_ns=profile.between_ns,
    )


JOBS.add(
    JobKind(
        "layers", "time of each layer, by the backend's own profiler", LayersRequest, LayersResult,
        perform, policy=Policy.AFTER, setting="layers", sampling=True, on_board=True,
        found=lambda result: f"{len(result.layers.entries)} layer times",
    )
)  # fmt: skip
