"""What a stage is made of, for people: resolution, channels, blocks, its share, gradient paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cspbench.analysis.layer import Layer
    from cspbench.analysis.record import Analysis

_BLOCK = re.compile(r"^(.*\bblocks\.\d+)(?:\.|$)")


def stage_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One row a stage, in the order of execution.

    Columns: ``stage``; ``output`` (height x width) and ``channels`` of what it puts out;
    ``blocks`` (repeated blocks in it, 0 if it has none); ``layers`` (operator calls); ``params``;
    ``macs``; ``macs_share``; ``gradient_paths`` (ways from its input to its output through the
    graph, as the paper counts them; missing where it has no single input).
    """
    total = int(analysis.totals["macs"]) or 1
    rows = []
    for stage, group in groupby(analysis.layers, key=lambda layer: layer.stage):
        layers = list(group)
        shape = _output_shape(layers)
        rows.append(
            {
                "stage": stage,
                "output": "x".join(map(str, shape[2:])) or "1",
                "channels": shape[1] if len(shape) > 1 else None,
                "blocks": len(
                    {match[1] for layer in layers if (match := _BLOCK.match(layer.name))}
                ),
                "layers": len(layers),
                "params": sum(layer["params"] for layer in layers),
                "macs": sum(layer["macs"] for layer in layers),
                "macs_share": sum(layer["macs"] for layer in layers) / total,
                "gradient_paths": _paths(layers),
            }
        )
    return rows


def _output_shape(layers: Sequence[Layer]) -> tuple[int, ...]:
    """Shape of the last activation of a stage."""
    shapes = layers[-1].output_shapes
    return tuple(shapes[0]) if shapes else ()


def _paths(layers: Sequence[Layer]) -> int | None:
    """Ways from the one activation that enters to the last one that is made."""
    written = {value for layer in layers for value in layer.outputs}
    entering = {value for layer in layers for value in layer.inputs} - written
    ends = layers[-1].outputs
    if len(entering) != 1 or not ends:
        return None
    return gradient_paths(layers, entering.pop(), ends[0])


def gradient_paths(layers: Sequence[Layer], start: int, end: int) -> int:
    """Number of ways from activation ``start`` to activation ``end`` through the graph."""
    paths = {start: 1}
    for layer in layers:
        arriving = sum(paths.get(value, 0) for value in layer.inputs)
        if arriving:
            for value in layer.outputs:
                paths[value] = paths.get(value, 0) + arriving
    return paths.get(end, 0)
