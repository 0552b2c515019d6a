"""The record of an analysis: an `Analysis` holds one `Layer` per operator call, and the totals.

Light on purpose: neither torch nor pandas nor numpy, so that a cached analysis comes back in
milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cspbench.analysis.derive import derive_layers, totals_of
from cspbench.analysis.layer import (
    COLUMNS,
    FACTS,
    LIMIT,
    Layer,
    Number,
    Shape,
    check_rows,
    from_row,
)
from cspbench.analysis.metric import (
    GRAPH_METRICS,
    LAYER_METRICS,
    TOTAL_METRICS,
    Facts,
    is_builtin,
)
from cspbench.analysis.ops import FREE_KINDS, UNSUPPORTED
from cspbench.core.text import nearest
from cspbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Raise when a record no longer means what it meant: cached analyses of other versions are redone.
VERSION = 1


def _stored_layers(rows: Sequence[Sequence[Any]]) -> list[Layer]:
    """Layers with what is derived from them: where that fails, their facts contradict each other.

    A linear layer without outputs is an example: each fact may be right, and no layer has them all.
    """
    layers = [from_row(row) for row in rows]
    try:
        derive_layers(layers)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"the layers of a stored analysis are malformed: {error}") from error
    if any(abs(value) >= LIMIT for layer in layers for value in layer.values.values()):
        raise InputError("the layers of a stored analysis are malformed: a cost is out of range")
    return layers


def is_current(data: Mapping[str, Any] | None) -> bool:
    """True if a stored analysis has layers, in the form of this version of cspbench."""
    return bool(data and data.get("version") == VERSION and data.get("rows"))


def check_stored(data: Mapping[str, Any]) -> None:
    """Check the layers of an analysis from an untrusted run.

    Raises:
        ValueError: a layer is malformed; layers of another version are not checked.
    """
    if not is_current(data):
        return
    rows = data["rows"]
    try:
        inputs = _from_head(data, rows).input
        sides = [side for shape in inputs for side in shape]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not an analysis: {error}") from None
    sizes = all(type(side) is int and 0 < side < LIMIT for side in sides)
    if not inputs or not all(inputs) or not sizes:
        raise ValueError("input is no list of shapes")
    check_rows(rows)


@dataclass(repr=False)
class Analysis:
    """What is known of a model without running it.

    ``input`` holds the shapes of the example inputs, ``totals`` one number per named convention,
    ``coverage`` the share in percent of operator calls whose cost is known, ``unsupported`` the
    operators (with their number of calls) whose cost is not, ``ignored`` for each convention the
    operators that it counts as nothing, with their number of calls.
    ``places`` names the layers at which a maximum stands (``max_layer_bflops``,
    ``peak_live_bytes``). ``source`` says where the graph came from: "torch", "exported program"
    or "onnx". ``notes`` say what was done to the model before, a sentence for each stage that the
    cross-stage-partial transform changed or left.
    """

    id: str
    input: tuple[Shape, ...]
    totals: dict[str, Number]
    coverage: float = 100.0
    unsupported: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, dict[str, int]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    source: str = "torch"
    notes: tuple[str, ...] = ()
    _layers: list[Layer] | None = field(default=None)
    _rows: str | list[Any] = field(default="[]")

    def __repr__(self) -> str:
        shapes = " and ".join("x".join(map(str, shape)) for shape in self.input)
        return (
            f"Analysis({self.id!r}: {self.totals.get('params', 0) / 1e6:.3f} M parameters, "
            f"{self.totals.get('macs', 0) / 1e9:.3f} GMACs on {shapes})"
        )

    @property
    def layers(self) -> list[Layer]:
        """Operator calls in the order of execution.

        Raises:
            InputError: stored layers are malformed, as may be those of an untrusted run.
        """
        if self._layers is None:
            rows = json.loads(self._rows) if isinstance(self._rows, str) else self._rows
            self._layers = _stored_layers(rows)
        return self._layers

    def __getattr__(self, name: str) -> Any:
        """A total by its name: ``analysis.bflops``; None if it was stored without that metric.

        Raises:
            AttributeError: no metric has that name.
        """
        totals = self.__dict__.get("totals", {})
        if name in totals:
            return totals[name]
        if name.startswith("_"):  # what copies and pickles look for
            raise AttributeError(name)
        if name in TOTAL_METRICS:
            return None
        known = sorted({*totals, *TOTAL_METRICS.names()})
        raise AttributeError(f"an analysis has no metric {name!r}{nearest(name, known)}")

    @property
    def facts(self) -> Facts:
        """What a total may need besides the layers.

        Raises:
            KeyError: the record lacks the totals that hold these facts.
        """
        totals, peak = self.totals, int(self.totals["peak_live_bytes"])
        at = (layer.index for layer in self.layers if layer.live_bytes == peak)
        return Facts(
            params=int(totals["params"]),
            running_statistics=int(totals["params_file"] - totals["params"]),
            peak_live_bytes=peak,
            peak_layer=next(at, -1) if "peak_live_bytes" in self.places else -1,
            weight_bytes=int(totals["weight_bytes"]),
        )

    def complete(self) -> Analysis:
        """Add the registered totals that the record lacks, computed from its layers.

        A record of the cache, or of a worker that lacks a package of ours, has none of that
        package's metrics.

        Raises:
            InputError: a metric cannot be computed.
        """
        missing = [metric for metric in TOTAL_METRICS if metric.name not in self.totals]
        if missing:
            totals, ignored = totals_of(self.layers, self.facts, missing)
            self.totals |= totals
            self.ignored |= ignored
        return self

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
            **({"notes": list(self.notes)} if self.notes else {}),
        }
        if layers:
            result["layers"] = [layer.as_dict() for layer in self.layers]
        return result

    def frame(self) -> pd.DataFrame:
        """One row per operator call: `COLUMNS`, and what other packages derive of a layer."""
        import pandas as pd

        rows = [layer.as_dict() for layer in self.layers]
        others = [m.name for m in (*LAYER_METRICS, *GRAPH_METRICS) if not is_builtin(m)]
        return pd.DataFrame(rows, columns=[*COLUMNS, *others])

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
        return self._head(self.totals), self._rows_text()

    def to_cache(self) -> tuple[str, str]:
        """The same without the totals of other packages, whose code may be another tomorrow."""
        own = {m.name for m in TOTAL_METRICS if is_builtin(m)}
        return self._head(own & self.totals.keys()), self._rows_text()

    def _head(self, names: Iterable[str]) -> str:
        names = set(names)
        head = {
            "version": VERSION,
            "id": self.id,
            "source": self.source,
            "input": self.input,
            "totals": {name: value for name, value in self.totals.items() if name in names},
            "coverage": self.coverage,
            "unsupported": self.unsupported,
            "ignored": {name: ops for name, ops in self.ignored.items() if name in names},
            "places": self.places,
            "columns": FACTS,
            **({"notes": self.notes} if self.notes else {}),
        }
        return json.dumps(head, separators=(",", ":"))

    def _rows_text(self) -> str:
        rows = self._rows
        if self._layers is not None:
            rows = [[getattr(layer, name) for name in FACTS] for layer in self._layers]
        if not isinstance(rows, str):
            rows = json.dumps(rows, separators=(",", ":"))
        return rows

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
    if tuple(data["columns"]) != FACTS:
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
        notes=tuple(map(str, data.get("notes", ()))),
        _rows=rows,
    )


def analysis_of(
    id_: str, source: str, input_shapes: tuple[Shape, ...], layers: list[Layer], facts: Facts
) -> Analysis:
    """Assemble the record: metrics, totals, coverage, what each convention ignores."""
    derive_layers(layers)
    totals, ignored = totals_of(layers, facts, TOTAL_METRICS)
    unsupported = Counter(layer.op for layer in layers if layer.kind == UNSUPPORTED)
    return Analysis(
        id=id_,
        input=input_shapes,
        totals=totals,
        coverage=coverage(layers),
        unsupported=dict(sorted(unsupported.items())),
        ignored=ignored,
        places=_places(layers, facts),
        source=source,
        _layers=layers,
    )


def coverage(layers: list[Layer]) -> float:
    """Percent of operator calls (views and factories aside) whose cost is known; 100 if none."""
    counted = [layer for layer in layers if layer.kind not in FREE_KINDS]
    unknown = sum(layer.kind == UNSUPPORTED for layer in counted)
    return 100.0 * (1 - unknown / len(counted)) if counted else 100.0


def _places(layers: list[Layer], facts: Facts) -> dict[str, str]:
    """Paths of the layers at which the maxima stand."""
    places = {}
    if layers:
        places["max_layer_bflops"] = max(layers, key=lambda layer: layer.values["paper_flops"]).name
    if facts.peak_layer >= 0:
        places["peak_live_bytes"] = layers[facts.peak_layer].name
    return places
