"""From facts to metrics: fills every layer's derived values and makes the totals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.metric import (
    GRAPH_METRICS,
    LAYER_METRICS,
    Facts,
    GraphMetric,
    LayerMetric,
    TotalMetric,
    is_builtin,
)
from cspbench.errors import InputError

T = TypeVar("T")


def derive_layers(layers: list[Layer]) -> None:
    """Fill ``layer.values`` with every registered layer and graph metric.

    Raises:
        InputError: a metric of another package cannot be computed.
    """
    for layer in layers:
        layer.values = {}
    for metric in LAYER_METRICS:
        values: list[Number] = _computed(metric, partial(list, map(metric.compute, layers)))
        _fill(metric.name, layers, values)
    for graph in GRAPH_METRICS:
        _fill(graph.name, layers, _computed(graph, partial(graph.compute, layers)))


def _fill(name: str, layers: Sequence[Layer], values: Sequence[Number]) -> None:
    for layer, value in zip(layers, values, strict=True):
        layer.values[name] = value


def totals_of(
    layers: Sequence[Layer], facts: Facts, metrics: Iterable[TotalMetric]
) -> tuple[dict[str, Number], dict[str, dict[str, int]]]:
    """Totals by name, ours first, and for each the operators that it counts as nothing.

    Raises:
        InputError: a metric of another package cannot be computed.
    """
    totals: dict[str, Number] = {}
    ignored: dict[str, dict[str, int]] = {}
    calls = Counter((layer.kind, layer.op) for layer in layers)
    for metric in sorted(metrics, key=lambda metric: not is_builtin(metric)):
        totals[metric.name] = _computed(metric, partial(metric.compute, layers, facts))
        if metric.kinds is not None:
            left_out: Counter[str] = Counter()
            for (kind, op), count in calls.items():
                if kind not in metric.kinds:
                    left_out[op] += count
            ignored[metric.name] = dict(sorted(left_out.items()))
    return totals, ignored


def _computed(metric: LayerMetric | GraphMetric | TotalMetric, call: Callable[[], T]) -> T:
    """The metric's value or values; an error in a plug-in's metric names the plug-in's metric."""
    if is_builtin(metric):
        return call()
    try:
        result = call()
    except Exception as error:  # whatever the plug-in does wrong
        text = f"{type(error).__name__}: {error}"
        raise InputError(f"the metric {metric.name} of a plug-in fails: {text}") from error
    for value in result if isinstance(result, (list, tuple)) else [result]:
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(
                f"the metric {metric.name} of a plug-in must be a finite number, not {value!r}"
            )
    return result
