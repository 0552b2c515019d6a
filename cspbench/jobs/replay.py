"""Replay: the distinct layers of one or two networks, each a graph of its own in the same backend.

A pass runs every layer once, one after the other, as the network does, so that each finds its
weights as cold as there. Memory that it writes is warm in the network, where the layers before have
just used it; so a layer whose weights are small runs once more before it is timed. What a layer
takes is the sum of the backend's own profile without the changes of layout that the engine puts
before and after it: in the network its neighbours have that layout already.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cspbench.backends.spec import LayerProfile, LayerTime, Rehearses
from cspbench.core.bounds import AtMost, Latencies
from cspbench.core.text import first_line
from cspbench.errors import Unsupported
from cspbench.jobs.layers import WARM_RUNS, LayerTimes
from cspbench.jobs.spec import JOBS, JobKind, Policy
from cspbench.jobs.time import TimeRequest, Turns

if TYPE_CHECKING:
    import numpy as np

    from cspbench.backends.spec import Backend, LayerSession, SingleLayer
    from cspbench.core.options import Options

#: Most layers that a worker keeps.
MAX_LAYERS = 600
#: Parts of the names that backends give to what they insert to change a memory layout.
LAYOUT_WORDS = ("layout", "reorder", "permute", "transpose", "reformat")


@dataclass(frozen=True)
class ReplayRequest(TimeRequest):
    """Replay the layers of the artifacts: of ``case``, and of others that its backend runs alike.

    ``cases`` are their ids, ``artifacts`` their files.
    """

    job: ClassVar[str] = "replay"
    cases: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplayResult:
    """Times of the layers in the turns of a block.

    Each entry of ``layers`` is a layer: its name is a digest, its members are the nodes that it is,
    each with the number of its network in ``cases`` and a colon before it. ``latencies_ns`` are
    those of passes over all of them. ``skipped`` says why a layer could not be replayed.
    """

    cases: Annotated[list[str], AtMost(MAX_LAYERS)]
    latencies_ns: Latencies
    turns: Turns
    layers: LayerTimes
    skipped: Annotated[dict[str, str], AtMost(MAX_LAYERS)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(self.turns.counts) != len(self.latencies_ns):
            raise ValueError("the bursts do not hold all passes")


class Replays:
    """The layers that one worker keeps: a profiled session each.

    In a network the layer before has just written what a layer reads. So the input of each layer is
    written anew before it runs, which is not part of its time. Layers of ``small_weights`` run once
    before that, where their session can leave it out.
    """

    def __init__(
        self,
        sessions: Mapping[str, tuple[LayerSession, np.ndarray]],
        members: Mapping[str, Sequence[str]],
        skipped: Mapping[str, str],
        small_weights: Collection[str] = (),
    ) -> None:
        self._sessions = sessions
        self._members = members
        self.skipped = dict(skipped)
        self._rehearsals = {
            key: session.rehearse
            for key, (session, _) in sessions.items()
            if key in small_weights and isinstance(session, Rehearses)
        }
        self._readying_ns = self._passes = 0

    def run(self) -> None:
        """One pass over all layers."""
        import numpy as np

        for key, (session, array) in self._sessions.items():
            begun = time.perf_counter_ns()
            if key in self._rehearsals:
                self._rehearsals[key](array)
            np.multiply(array, 1, out=array)
            self._readying_ns += time.perf_counter_ns() - begun
            session.run(array)
        self._passes += 1

    def warm_up(self) -> None:
        """The first passes, which do not count."""
        for _ in range(WARM_RUNS):
            self.run()
        for session, _ in self._sessions.values():
            session.begin()
        self._readying_ns = self._passes = 0

    def times(self) -> LayerTimes:
        """Mean time of each layer since the warm-up; the total is that of a whole pass."""
        profiles = {key: session.profile() for key, (session, _) in self._sessions.items()}
        readying = self._readying_ns // max(1, self._passes)
        entries: list[Any] = [
            (key, "", own_ns(profile), list(self._members[key]))
            for key, profile in profiles.items()
        ]
        return LayerTimes(
            entries=entries,
            nodes=[],
            total_ns=max(1, readying + sum(profile.total_ns for profile in profiles.values())),
            runs=min((profile.runs for profile in profiles.values()), default=0),
            method=next((profile.method for profile in profiles.values()), ""),
        )


def own_ns(profile: LayerProfile) -> int:
    """Time of a layer without changes of layout; of the whole graph if nothing else is timed."""
    own = sum(entry.ns for entry in profile.entries if not changes_layout(entry))
    return own or profile.total_ns


def changes_layout(entry: LayerTime) -> bool:
    """Whether an entry only changes the layout of a tensor in memory."""
    text = (entry.op or entry.name).lower()
    return any(word in text for word in LAYOUT_WORDS)


def can_replay(backend: Backend) -> bool:
    """Whether single layers of a backend's networks can be timed."""
    from cspbench.backends.spec import LayerProfiler, SingleLayers

    onnx = isinstance(backend, LayerProfiler) and backend.artifact == "onnx"
    return onnx or isinstance(backend, SingleLayers)


def load_replays(
    backend: Backend, options: Options, threads: int, artifacts: Sequence[str]
) -> Replays:
    """Cut the artifacts into layers, and load each distinct one.

    Raises:
        Unsupported: the backend cannot run single layers.
    """
    from cspbench.artifacts.tensors import input_tensor

    if not can_replay(backend):
        raise Unsupported(f"single layers cannot be replayed by {backend.name}")
    layers: dict[str, SingleLayer] = {}
    members: dict[str, list[str]] = {}
    sessions: dict[str, tuple[LayerSession, np.ndarray]] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(artifacts):
            for layer in _layers_of(backend, options, threads, Path(file), Path(folder)):
                layers.setdefault(layer.key, layer)
                members.setdefault(layer.key, []).extend(f"{number}:{n}" for n in layer.nodes)
        for key, layer in list(layers.items())[:MAX_LAYERS]:
            array = input_tensor(layer.shape, 0, 1)
            try:
                session = layer.load()
                session.run(array)
            except Exception as error:
                skipped[key] = first_line(error)[:200]
                continue
            sessions[key] = session, array
    if not sessions:
        raise Unsupported("no layer of the network can be replayed")
    return Replays(
        sessions, members, skipped, {key for key in sessions if layers[key].small_weights}
    )


def _layers_of(
    backend: Any, options: Options, threads: int, artifact: Path, folder: Path
) -> Iterable[SingleLayer]:
    from cspbench.artifacts.layer_graphs import layer_graphs
    from cspbench.backends.spec import SingleLayer, SingleLayers

    if isinstance(backend, SingleLayers):
        yield from backend.single_layers(artifact, options, threads)
        return
    for graph in layer_graphs(artifact):
        file = folder / f"{graph.key}.onnx"
        file.write_bytes(graph.model.SerializeToString())
        load = partial(backend.load_profiled, file, options, threads)
        yield SingleLayer(graph.key, graph.nodes, graph.shape, load, graph.small_weights)


JOBS.add(
    JobKind(
        "replay", "single layers beside their networks", ReplayRequest, ReplayResult,
        policy=Policy.BESIDE, observed=True,
        found=lambda result: f"{len(result.layers.entries)} layers",
    )
)  # fmt: skip
