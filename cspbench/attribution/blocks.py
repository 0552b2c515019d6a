"""Two cases as the blocks show them that they shared: layer times in units of the first case.

A block has profiled bursts beside the plain ones. The share of an inference that a layer takes does
not depend on the machine's speed meanwhile, and how long an inference of b is in units of one of a
is what the plain bursts of each round say. So a layer of a takes ``share x latency(a)``, one of b
``share x ratio x latency(a)``, and what the profiler itself costs is spread over the layers in
proportion. A replayed layer is measured by the same rounds.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from cspbench.analysis.layer import Layer
from cspbench.analysis.roofline import Peak
from cspbench.artifacts.spec import Node
from cspbench.attribution.causes import Side
from cspbench.attribution.work import Entry, ReplayedLayer, entries_of
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.replay import ReplayResult
from cspbench.measure.statistics import Interval
from cspbench.store.ratios import ProfiledArm, SharedBlock
from cspbench.views.layer_join import match

#: Fewer page faults an inference are not worth a cause.
FEW_FAULTS = 50


@dataclass(frozen=True)
class Ground:
    """What is known of a case besides its profiles: latency, layers at its batch, ceilings."""

    case: str
    latency: Interval
    batch: int
    layers: tuple[Layer, ...]
    peak: Peak

    def side(self, entries: Sequence[Entry], times: LayerTimes) -> Side:
        """The side of an explanation with these entries."""
        return Side(
            case=self.case,
            latency=self.latency,
            batch=self.batch,
            macs=sum(int(layer["macs"]) for layer in self.layers),
            traffic_bytes=sum(int(layer["traffic_bytes_fused"]) for layer in self.layers),
            entries=tuple(entries),
            profiled_ms=times.total_ns / 1e6,
            method=times.method,
            between_ms=times.between_ns / 1e6,
        )


@dataclass(frozen=True)
class BlockSides:
    """Both cases block by block, and their mean over the blocks; ``ratio`` is that of all."""

    a: Ground
    b: Ground
    blocks: Sequence[SharedBlock]
    ratio: Interval

    @functools.cached_property
    def each(self) -> list[tuple[Side, Side]]:
        """Both sides of every block."""
        return [self._sides(block) for block in self.blocks]

    def mean(self) -> tuple[Side, Side]:
        """Both sides with the mean of each entry's share over the blocks."""
        latency = self.a.latency.estimate
        return (
            _mean([side for side, _ in self.each], latency),
            _mean([side for _, side in self.each], latency * self.ratio.estimate),
        )

    def _sides(self, block: SharedBlock) -> tuple[Side, Side]:
        latency = self.a.latency.estimate
        return (
            self._side(self.a, block.a, block, latency),
            self._side(self.b, block.b, block, latency * block.ratio),
        )

    def _side(self, ground: Ground, arm: ProfiledArm, block: SharedBlock, ms: float) -> Side:
        times = arm.layers
        replayed = []
        if block.replay is not None:
            pass_ms = block.replay_ratio * self.a.latency.estimate
            replayed = replayed_layers(block.replay, ground, times, pass_ms)
        scale = ms * 1e6 / times.total_ns
        entries = entries_of(times, ground.layers, ground.peak, scale, replayed)
        faulty = (arm.faults or 0.0) >= FEW_FAULTS
        return replace(
            ground.side(entries, times),
            latency=Interval(ms, ms, ms),
            profiled=arm.profiled,
            between_ms=scale * times.between_ns / 1e6,
            faults_ms=ms * (arm.system or 0.0) if faulty else 0.0,
        )


def replayed_layers(
    replay: ReplayResult, ground: Ground, times: LayerTimes, pass_ms: float
) -> list[ReplayedLayer]:
    """The replayed layers of one network, with their positions in its Analysis.

    ``times`` is a profile of the network, whose nodes are those of its artifact.
    """
    prefix = f"{replay.cases.index(ground.case)}:"
    nodes = [Node(name, op, tuple(feeds), tuple(names)) for name, op, feeds, names in times.nodes]
    positions = match(nodes, ground.layers)
    by_name = {node.name: number for number, node in enumerate(nodes)}
    scale = pass_ms / replay.layers.total_ns
    found = []
    for _, _, ns, members in replay.layers.entries:
        own = [name.removeprefix(prefix) for name in members if name.startswith(prefix)]
        for layer in _repeats(own, nodes, by_name):
            at = frozenset(positions[number] for number in layer if number in positions)
            if at:
                found.append(ReplayedLayer(ns * scale, at))
    return found


def _repeats(
    names: Sequence[str], nodes: Sequence[Node], by_name: dict[str, int]
) -> list[list[int]]:
    """A network may hold a layer several times: the nodes of each, by their numbers.

    They come layer by layer, so that their operators repeat. A layer may feed the next one: the
    nodes of a layer are the fewest that repeat and that one another feed.
    """
    numbers = [by_name[name] for name in names if name in by_name]
    ops = [nodes[number].op for number in numbers]
    for size in range(1, len(numbers)):
        layers = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        repeats = ops == ops[:size] * len(layers)
        if repeats and all(_is_connected(layer, nodes) for layer in layers):
            return layers
    return [numbers] if numbers else []


def _is_connected(layer: Sequence[int], nodes: Sequence[Node]) -> bool:
    return all(set(nodes[number].producers) & set(layer) for number in layer[1:])


def _mean(sides: Sequence[Side], ms: float) -> Side:
    """One side whose entries have their mean share of an inference over the blocks."""
    shares: dict[tuple[str, int], list[float]] = defaultdict(list)
    replays: dict[tuple[str, int], list[float]] = defaultdict(list)
    first: dict[tuple[str, int], Entry] = {}
    for side in sides:
        seen: dict[str, int] = defaultdict(int)
        for entry in side.entries:
            key = entry.name, seen[entry.name]
            seen[entry.name] += 1
            first.setdefault(key, entry)
            shares[key].append(entry.ms / side.latency.estimate)
            if entry.replay_ms is not None:
                replays[key].append(entry.replay_ms / side.latency.estimate)
    count = len(sides)
    entries = []
    for key, entry in first.items():
        replay = ms * fmean(replays[key]) if len(replays[key]) == len(shares[key]) else None
        own = ms * sum(shares[key]) / count
        least = own if replay is None else replay
        entries.append(
            replace(entry, ms=own, replay_ms=replay, overhead_ms=min(entry.overhead_ms, least))
        )
    factors = [side.profiled for side in sides if side.profiled is not None]
    return replace(
        sides[0],
        latency=Interval(ms, ms, ms),
        entries=tuple(entries),
        profiled=fmean(factors) if factors else None,
        faults_ms=ms * fmean(side.faults_ms / side.latency.estimate for side in sides),
        between_ms=ms * fmean(side.between_ms / side.latency.estimate for side in sides),
    )
