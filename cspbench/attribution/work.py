"""What each entry of a layer profile does, moves and costs at best: the ground of an attribution.

Pure. Times are in ms. Arithmetic and traffic are those of the Analysis at the case's batch, priced
at the measured ceilings of the device; which of it a layer really reaches is left to ``causes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from cspbench.analysis.derive import derive_layers
from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.ops import FOLDABLE_KINDS, FREE_KINDS, MAC_KINDS, UNSUPPORTED
from cspbench.analysis.roofline import Peak
from cspbench.analysis.stages import HOLDERS
from cspbench.artifacts.spec import Node
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.replay import LAYOUT_WORDS
from cspbench.views.layer_join import LayerRow, join, kind_of_node

_CONCATENATIONS = frozenset({"cat", "concat", "concatenate"})
_ROLES = {
    "linear": "linear", "matmul": "matrix product", "attention": "attention",
    "norm": "norm", "activation": "activation", "elementwise": "addition",
    "max_pool": "pooling", "avg_pool": "pooling", "softmax": "softmax", "reduce": "reduction",
    "resize": "resize", "index": "look-up", "copy": "copy",
}  # fmt: skip


class Family(str, Enum):
    """How the time of an entry is accounted for."""

    ARITHMETIC = "arithmetic"
    MOVEMENT = "movement"
    CONCATENATION = "concatenation"
    UNFUSED = "unfused"
    LAYOUT = "layout"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Entry:
    """One entry of a profile with time of its own.

    ``compute_ms`` and ``memory_ms`` are its arithmetic and its fused traffic at the device's
    ceilings, ``overhead_ms`` the part of ``ms`` that dispatching one operator costs. ``role`` says
    what it is in words (``1x1 convolution``), ``layers`` the module paths that it computes.
    ``replay_ms`` is what its layers take alone, each as a graph of its own; None where they were
    not replayed. ``shape`` tells its channels and output (``64 to 128 channels at 16x16``).
    """

    name: str
    op: str
    stage: str
    role: str
    family: Family
    ms: float
    compute_ms: float = 0.0
    memory_ms: float = 0.0
    overhead_ms: float = 0.0
    macs: int = 0
    traffic_bytes: int = 0
    layers: tuple[str, ...] = ()
    replay_ms: float | None = None
    shape: str = ""

    @property
    def roof_ms(self) -> float:
        """The least that its work can take: the longer of arithmetic and traffic."""
        return max(self.compute_ms, self.memory_ms)

    @property
    def waiting_ms(self) -> float:
        """How much longer its traffic takes than its arithmetic: 0 where intensity is high."""
        return max(0.0, self.memory_ms - self.compute_ms)

    @property
    def own_ms(self) -> float:
        """Its time, alone where that is known, without the dispatch."""
        return (self.ms if self.replay_ms is None else self.replay_ms) - self.overhead_ms


def at_batch(layers: Sequence[Layer], batch: int) -> list[Layer]:
    """Layers of a network at batch 1 as they are at ``batch``: activations grow, weights do not."""
    if batch == 1:
        return list(layers)
    grown = [
        replace(
            layer,
            input_shapes=_grown(layer.input_shapes, batch),
            output_shapes=_grown(layer.output_shapes, batch),
            input_elements=layer.input_elements * batch,
            output_elements=layer.output_elements * batch,
            input_bytes=layer.input_bytes * batch,
            output_bytes=layer.output_bytes * batch,
            copy_bytes=layer.copy_bytes * batch,
            values={},
        )
        for layer in layers
    ]
    derive_layers(grown)
    return grown


def _grown(shapes: tuple[Shape, ...], batch: int) -> tuple[Shape, ...]:
    return tuple((shape[0] * batch, *shape[1:]) if shape else shape for shape in shapes)


def entries_of(
    times: LayerTimes,
    layers: Sequence[Layer],
    peak: Peak,
    scale: float = 1.0,
    replayed: Sequence[ReplayedLayer] = (),
) -> list[Entry]:
    """Entries of a stored profile that took time, in their order.

    An entry that is not a known layer counts to the stage of the entry before it.

    Args:
        times: the profile.
        layers: those of the Analysis at the case's batch.
        peak: the device's ceilings.
        scale: factor of all times of the profile.
        replayed: layers of the same network that were timed alone.
    """
    rows = [row for row in join(times, layers) if row.ns > 0]
    alone = replay_ms(rows, layers, replayed)
    entries: list[Entry] = []
    for row, replay in zip(rows, alone, strict=True):
        stage = entries[-1].stage if entries else ""
        entries.append(_entry(row, layers, peak, stage, scale * row.ns / 1e6, replay))
    return entries


def expected_entries(layers: Sequence[Layer], peak: Peak) -> list[Entry]:
    """Entries of a network that was not timed: one a layer, if all that can be folded is.

    Their ``ms`` is the dispatch of one operator only.
    """
    overhead = 1e3 * peak.overhead_s
    rows = [LayerRow(layer.name, layer.op, 0, (number,)) for number, layer in enumerate(layers)]
    entries = [_entry(row, layers, peak, "", overhead, None) for row in rows]
    return [entry for entry in entries if entry.roof_ms > 0]


@dataclass(frozen=True)
class ReplayedLayer:
    """A layer that was timed alone: the positions of its nodes' layers in the Analysis."""

    ms: float
    layers: frozenset[int]


def replay_ms(
    rows: Sequence[LayerRow], layers: Sequence[Layer], replayed: Sequence[ReplayedLayer]
) -> list[float | None]:
    """Time that the layers of each row take alone; None where its main layer was not replayed.

    A replayed layer that a backend splits into several entries is shared out by their times.
    """
    found: list[float | None] = [None] * len(rows)
    computed = [frozenset(row.layers) for row in rows]
    for one in replayed:
        own = [number for number, layers_of in enumerate(computed) if one.layers & layers_of]
        total = sum(rows[number].ns for number in own)
        for number in own:
            share = one.ms * rows[number].ns / total
            found[number] = (found[number] or 0.0) + share
    covered = frozenset[int]().union(*(one.layers for one in replayed))
    return [
        time if row.layers and _main_position(row, layers) in covered else None
        for row, time in zip(rows, found, strict=True)
    ]


def _main_position(row: LayerRow, layers: Sequence[Layer]) -> int:
    main = main_layer([layers[number] for number in row.layers])
    return next(number for number in row.layers if layers[number] is main)


def _entry(
    row: LayerRow, layers: Sequence[Layer], peak: Peak, before: str, ms: float,
    replay: float | None,
) -> Entry:  # fmt: skip
    """An entry; ``before`` is the stage of the one before it."""
    parts = [layers[number] for number in row.layers]
    if not parts:
        return _unjoined(row, ms, peak, before)
    main = main_layer(parts)
    flops = sum(int(layer["flops"]) for layer in parts)
    moved = sum(int(layer["traffic_bytes_fused"]) for layer in parts)
    return Entry(
        name=row.name,
        op=row.op,
        stage=plain_stage(main.stage),
        role=role_of(main),
        family=_family(parts, main, moved),
        ms=ms,
        compute_ms=1e3 * flops / peak.flops_per_s,
        memory_ms=1e3 * moved / peak.bytes_per_s,
        overhead_ms=min(ms if replay is None else replay, 1e3 * peak.overhead_s),
        macs=flops // 2,
        traffic_bytes=moved,
        layers=tuple(layer.name for layer in parts),
        replay_ms=replay,
        shape=shape_of(main),
    )


def shape_of(layer: Layer) -> str:
    """``64 to 128 channels at 16x16``; empty where that does not describe it."""
    if layer.kind != "conv" or len(layer.weight_shape) < 2 or not layer.output_shapes:
        return ""
    outputs = layer.output_shapes[0]
    size = "x".join(map(str, outputs[2:]))
    channels = layer.weight_shape[1] * (layer.groups or 1)
    return f"{channels} to {outputs[1]} channels at {size}"


def main_layer(parts: Sequence[Layer]) -> Layer:
    """The layer that a fused entry is known by."""
    return next((layer for layer in parts if layer.kind in MAC_KINDS), parts[0])


def _family(parts: Sequence[Layer], main: Layer, moved: int) -> Family:
    if main.kind in MAC_KINDS:
        return Family.ARITHMETIC
    if main.op in _CONCATENATIONS:
        return Family.CONCATENATION
    if main.kind == "copy":
        return Family.LAYOUT
    if moved == 0:
        foldable = {layer.kind for layer in parts} <= FOLDABLE_KINDS
        return Family.UNFUSED if foldable else Family.NOTHING
    return Family.MOVEMENT


def role_of(layer: Layer) -> str:
    """What a layer is in words (``1x1 convolution``, ``pooling``)."""
    if layer.op in _CONCATENATIONS:
        return "concatenation"
    if layer.kind != "conv":
        return _ROLES.get(layer.kind, layer.kind)
    size = "x".join(map(str, layer.kernel)) if layer.kernel else "any size"
    if layer.groups == 1:
        return f"{size} convolution"
    inputs = layer.weight_shape[1] if len(layer.weight_shape) > 1 else 0
    return f"{size} depthwise" if inputs == 1 else f"{size} grouped"


def _unjoined(row: LayerRow, ms: float, peak: Peak, stage: str) -> Entry:
    """An entry that no layer of the Analysis is known to be: only its operator tells anything."""
    op = row.op.lower().removeprefix("aten.").split(".")[0].rstrip("0123456789")
    kind = kind_of_node(Node(row.name, row.op.rstrip("0123456789")))
    family, role = Family.UNKNOWN, f"not joined: {row.op or 'unnamed'}"
    if op in _CONCATENATIONS:
        family, role = Family.CONCATENATION, "concatenation"
    elif any(word in op for word in LAYOUT_WORDS) or kind in FREE_KINDS:
        family, role = Family.LAYOUT, "slice or layout change"
    elif kind == "copy":
        family, role = Family.LAYOUT, "copy"
    elif kind != UNSUPPORTED and kind not in MAC_KINDS:
        role = f"not joined: {_ROLES.get(kind, kind)}"
    return Entry(
        row.name, row.op, stage, role, family, ms, overhead_ms=min(ms, 1e3 * peak.overhead_s)
    )


def in_stage(what: str, stage: str) -> str:
    """``3x3 convolution of stages.1``."""
    return f"{what} of {stage}" if stage else what


def plain_stage(stage: str) -> str:
    """A stage without what only holds it: ``backbone.stages.1`` is ``stages.1``."""
    first, _, rest = stage.partition(".")
    return rest if first in HOLDERS and rest else stage
