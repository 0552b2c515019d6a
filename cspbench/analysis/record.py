"""The record of an analysis: one `Layer` per operator call and an `Analysis` that holds them.

Light on purpose: neither torch nor pandas nor numpy, so that a cached analysis comes back in
milliseconds. Facts were observed by whoever made the record (the tracer, the ONNX reader); every
other number is derived from them by the pure functions in ``cspbench.analysis.metrics``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from cspbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Shape: TypeAlias = tuple[int, ...]
Number: TypeAlias = int | float

#: Raise when a record no longer means what it meant: cached analyses of other versions are redone.
VERSION = 1


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
        facts = {name: getattr(self, name) for name in _FACTS}
        return facts | self.values


_FACTS: tuple[str, ...] = tuple(item.name for item in fields(Layer) if item.name != "values")
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
    **{name: {int} for name in _FACTS},
    **{key: {str} for key in ("name", "op", "kind", "stage")},
    "transposed": {bool},
}
#: Where in a row they stand.
_SHAPES_PLACES, _SHAPE_PLACES = (
    tuple(place for place, name in enumerate(_FACTS) if _DEPTHS.get(name) == depth)
    for depth in (2, 1)
)


def _layer_from_row(row: Sequence[Any]) -> Layer:
    values = list(row)
    for place in _SHAPE_PLACES:
        values[place] = tuple(values[place])
    for place in _SHAPES_PLACES:
        values[place] = tuple(map(tuple, values[place]))
    return Layer(*values)


def _stored_layers(rows: Sequence[Sequence[Any]]) -> list[Layer]:
    """Layers with what is derived from them: where that fails, their facts contradict each other.

    A linear layer without outputs is an example: each fact may be right, and no layer has them all.
    """
    from cspbench.analysis.derive import derive_layers

    layers = [_layer_from_row(row) for row in rows]
    try:
        derive_layers(layers)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"the layers of a stored analysis are none: {error}") from error
    if any(abs(value) >= LIMIT for layer in layers for value in layer.values.values()):
        raise InputError("the layers of a stored analysis are none: one does more than any could")
    return layers


def is_current(data: Mapping[str, Any] | None) -> bool:
    """True if a stored analysis has layers, in the form of this version of cspbench."""
    return bool(data and data.get("version") == VERSION and data.get("rows"))


def check_stored(data: Mapping[str, Any]) -> None:
    """Check an analysis that somebody else may have written: its layers are what they should be.

    Raises:
        ValueError: they are not; those of another version are not looked at.
    """
    if not is_current(data):
        return
    rows = data["rows"]
    if not isinstance(rows, list) or any(
        not isinstance(row, list) or len(row) != len(_FACTS) for row in rows
    ):
        raise ValueError(f"rows are not lists of {len(_FACTS)} facts")
    try:
        inputs = _from_head(data, rows).input
        sides = [side for shape in inputs for side in shape]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not an analysis: {error}") from None
    sizes = all(type(side) is int and 0 < side < LIMIT for side in sides)
    if not inputs or not all(inputs) or not sizes:
        raise ValueError("input is no list of shapes")
    for name, column in zip(_FACTS, zip(*rows, strict=True), strict=True):
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


@dataclass
class Analysis:
    """What is known of a model without running it.

    ``input`` holds the shapes of the example inputs, ``totals`` one number per named convention,
    ``coverage`` the share in percent of operator calls whose cost is known, ``unsupported`` the
    operators (with their number of calls) whose cost is not, ``ignored`` for each convention the
    operators that it counts as nothing, with their number of calls.
    ``places`` names the layers at which a maximum stands (``max_layer_bflops``,
    ``peak_live_bytes``). ``source`` says where the graph came from: "torch", "exported program"
    or "onnx".
    """

    id: str
    input: tuple[Shape, ...]
    totals: dict[str, Number]
    coverage: float = 100.0
    unsupported: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, dict[str, int]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    source: str = "torch"
    _layers: list[Layer] | None = field(default=None, repr=False)
    _rows: str | list[Any] = field(default="[]", repr=False)

    @property
    def layers(self) -> list[Layer]:
        """Operator calls in the order of execution.

        Raises:
            InputError: stored layers are none, as may be those of a stranger's run.
        """
        if self._layers is None:
            rows = json.loads(self._rows) if isinstance(self._rows, str) else self._rows
            self._layers = _stored_layers(rows)
        return self._layers

    def __getattr__(self, name: str) -> Number:
        """A total by its name: ``analysis.bflops``."""
        totals = self.__dict__.get("totals", {})
        if name in totals:
            value: Number = totals[name]
            return value
        raise AttributeError(f"an analysis has no total or attribute {name!r}")

    def as_dict(self, layers: bool = False) -> dict[str, Any]:
        """The object that ``cspbench analyze --format json`` prints."""
        result: dict[str, Any] = {
            "id": self.id,
            "source": self.source,
            "input": [list(shape) for shape in self.input],
            **self.totals,
            "coverage": self.coverage,
            "unsupported": self.unsupported,
            "ignored": self.ignored,
            "places": self.places,
        }
        if layers:
            result["layers"] = [layer.as_dict() for layer in self.layers]
        return result

    def frame(self) -> pd.DataFrame:
        """One row per operator call; the columns are `COLUMNS`."""
        import pandas as pd

        rows = [layer.as_dict() for layer in self.layers]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def stages(self) -> pd.DataFrame:
        """Sums per stage, in the order of execution; ``live_bytes`` is the largest."""
        frame = self.frame()
        summed = [
            *("params", "macs", "flops", "bflops", "input_elements", "output_elements"),
            *("weight_elements", "traffic_bytes", "traffic_bytes_fused", "memory_access_cost"),
            *("copy_bytes", "saved_for_backward_bytes"),
        ]
        groups = frame.groupby("stage", sort=False)
        return groups[summed].sum().join(groups["live_bytes"].max()).reset_index()

    def to_parts(self) -> tuple[str, str]:
        """Head and layers as JSON texts; `from_parts` reads the layers only when asked for them."""
        head = {
            "version": VERSION,
            "id": self.id,
            "source": self.source,
            "input": self.input,
            "totals": self.totals,
            "coverage": self.coverage,
            "unsupported": self.unsupported,
            "ignored": self.ignored,
            "places": self.places,
            "columns": _FACTS,
        }
        rows = self._rows
        if self._layers is not None:
            rows = [[getattr(layer, name) for name in _FACTS] for layer in self._layers]
        if not isinstance(rows, str):
            rows = json.dumps(rows, separators=(",", ":"))
        return json.dumps(head, separators=(",", ":")), rows

    def to_json(self) -> str:
        """One JSON object that `from_json` reads back; facts only, metrics are derived again."""
        head, rows = self.to_parts()
        return f'{head[:-1]},"rows":{rows}}}'

    @staticmethod
    def from_json(text: str) -> Analysis:
        """Inverse of `to_json`.

        Raises:
            ValueError: not an analysis of this version.
        """
        return Analysis.from_dict(json.loads(text))

    @staticmethod
    def from_dict(data: object) -> Analysis:
        """The analysis that a parsed JSON object, such as one of ``run.json``, describes.

        Raises:
            ValueError: not an analysis of this version.
        """
        return _from_head(data, data.get("rows", []) if isinstance(data, Mapping) else [])

    @staticmethod
    def from_parts(head: str, rows: str) -> Analysis:
        """Inverse of `to_parts`.

        Raises:
            ValueError: not an analysis of this version.
        """
        return _from_head(json.loads(head), rows)


def _from_head(data: Any, rows: str | list[Any]) -> Analysis:
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        raise ValueError("not an analysis of this version of cspbench")
    if tuple(data["columns"]) != _FACTS:
        raise ValueError("the columns of this analysis are those of another version")
    return Analysis(
        id=data["id"],
        input=tuple(map(tuple, data["input"])),
        totals=dict(data["totals"]),
        coverage=data["coverage"],
        unsupported=dict(data["unsupported"]),
        ignored={name: dict(found) for name, found in data["ignored"].items()},
        places=dict(data["places"]),
        source=data["source"],
        _rows=rows,
    )
