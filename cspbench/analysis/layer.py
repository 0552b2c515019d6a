"""One operator call: what was observed of it, what is derived, and its form in a stored record.

Light on purpose: neither torch nor pandas nor numpy. The tracer or a graph reader observed the
facts; the pure functions in ``cspbench.analysis.metrics`` derive every other number from them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Number: TypeAlias = int | float


@dataclass(slots=True)
class Layer:
    """One operator call.

    Shapes are in elements, ``*_bytes`` in bytes. ``name`` is the path of the innermost module,
    ``stage`` the part of that path which says the stage, ``op`` the operator, ``kind`` its family
    (``cspbench.analysis.ops``). ``inputs`` and ``outputs`` number the activations, so that the
    graph can be followed; weights are not among them.

    ``input_elements`` counts each activation that is read once, ``weight_elements`` every
    parameter and buffer element that is read (bias and statistics included), ``bias_elements``
    those of the bias. ``params`` counts parameters where they are used first, so that a shared
    one counts once; ``params_conv`` likewise the weights of convolution and linear layers.
    ``live_bytes`` is the sum of activations alive while the operator runs, its own output and
    temporaries included; ``saved_for_backward_bytes`` what training would keep because of it;
    ``copy_bytes`` what it only duplicates.
    """

    index: int
    name: str
    op: str
    kind: str
    stage: str = ""
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    weight_shape: Shape = ()
    kernel: Shape = ()
    stride: Shape = ()
    dilation: Shape = ()
    groups: int = 1
    transposed: bool = False
    input_elements: int = 0
    output_elements: int = 0
    weight_elements: int = 0
    bias_elements: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    weight_bytes: int = 0
    params: int = 0
    params_conv: int = 0
    copy_bytes: int = 0
    live_bytes: int = 0
    saved_for_backward_bytes: int = 0
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    values: dict[str, Number] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> Number:
        """A fact or a derived metric by name."""
        if metric in self.values:
            return self.values[metric]
        fact = getattr(self, metric, None)
        if isinstance(fact, (int, float)):
            return fact
        raise KeyError(metric)

    def as_dict(self) -> dict[str, Any]:
        """Facts and metrics, flat, as ``--format json --layers`` prints them."""
        facts = {name: getattr(self, name) for name in FACTS}
        return facts | self.values


FACTS: tuple[str, ...] = tuple(item.name for item in fields(Layer) if item.name != "values")
#: How deep lists are in a stored row: those of shapes, and those of numbers; others are plain.
_DEPTHS = {
    **dict.fromkeys(("input_shapes", "output_shapes"), 2),
    **dict.fromkeys(("weight_shape", "kernel", "stride", "dilation", "inputs", "outputs"), 1),
}

#: Columns of `Analysis.frame`, in order (docs/metrics.md says what each means).
COLUMNS: tuple[str, ...] = (
    "index",
    "name",
    "op",
    "kind",
    "stage",
    "input_shapes",
    "output_shapes",
    "kernel",
    "stride",
    "groups",
    "params",
    "macs",
    "flops",
    "bflops",
    "input_elements",
    "output_elements",
    "weight_elements",
    "traffic_bytes",
    "traffic_bytes_fused",
    "memory_access_cost",
    "arithmetic_intensity",
    "copy_bytes",
    "live_bytes",
    "saved_for_backward_bytes",
)


#: No size of a real network is so large.
LIMIT = 2**63
#: What a stored value may be; of shapes what they hold.
_TYPES: dict[str, set[type]] = {
    **{name: {int} for name in FACTS},
    **{key: {str} for key in ("name", "op", "kind", "stage")},
    "transposed": {bool},
}
#: Where in a row they stand.
_SHAPES_PLACES, _SHAPE_PLACES = (
    tuple(place for place, name in enumerate(FACTS) if _DEPTHS.get(name) == depth)
    for depth in (2, 1)
)


def from_row(row: Sequence[Any]) -> Layer:
    """The layer that a stored row, values of `FACTS`, describes."""
    values = list(row)
    for place in _SHAPE_PLACES:
        values[place] = tuple(values[place])
    for place in _SHAPES_PLACES:
        values[place] = tuple(map(tuple, values[place]))
    return Layer(*values)


def check_rows(rows: object) -> None:
    """Check stored rows of an untrusted run: each fact is of its type and a size.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(rows, list) or any(
        not isinstance(row, list) or len(row) != len(FACTS) for row in rows
    ):
        raise ValueError(f"rows are not lists of {len(FACTS)} facts")
    for name, column in zip(FACTS, zip(*rows, strict=True), strict=True):
        values = _leaves(column, _DEPTHS.get(name, 0))
        if not set(map(type, values)) <= _TYPES[name]:
            raise ValueError(f"{name} of a layer has a value of another type")
        if (
            _TYPES[name] == {int}
            and not 0 <= min(values, default=0) <= max(values, default=0) < LIMIT
        ):
            raise ValueError(f"{name} of a layer is no size")


def _leaves(column: Sequence[Any], depth: int) -> Sequence[Any]:
    """What lists of that depth hold, in one; a single None where something is no list."""
    for _ in range(depth):
        if not set(map(type, column)) <= {list}:
            return (None,)
        column = list(itertools.chain.from_iterable(column))
    return column
