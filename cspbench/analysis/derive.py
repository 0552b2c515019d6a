"""From facts to metrics: fills every layer's derived values and makes the totals."""

from __future__ import annotations

from collections import Counter

from cspbench.analysis.metric import (
    GRAPH_METRICS,
    LAYER_METRICS,
    TOTAL_METRICS,
    Facts,
)
from cspbench.analysis.ops import FREE_KINDS, UNSUPPORTED
from cspbench.analysis.record import Analysis, Layer, Shape


def derive_layers(layers: list[Layer]) -> None:
    """Fill ``layer.values`` with every registered layer and graph metric."""
    metrics = [(metric.name, metric.compute) for metric in LAYER_METRICS]
    for layer in layers:
        layer.values = {name: compute(layer) for name, compute in metrics}
    for metric in GRAPH_METRICS:
        for layer, value in zip(layers, metric.compute(layers), strict=True):
            layer.values[metric.name] = value


def analysis_of(
    id_: str, source: str, input_shapes: tuple[Shape, ...], layers: list[Layer], facts: Facts
) -> Analysis:
    """Assemble the record: metrics, totals, coverage, what each convention ignores."""
    derive_layers(layers)
    calls = Counter((layer.kind, layer.op) for layer in layers)
    ignored: dict[str, dict[str, int]] = {}
    for total in TOTAL_METRICS:
        if total.kinds is not None:
            left_out: Counter[str] = Counter()
            for (kind, op), count in calls.items():
                if kind not in total.kinds:
                    left_out[op] += count
            ignored[total.name] = dict(sorted(left_out.items()))
    unsupported: Counter[str] = Counter()
    for (kind, op), count in calls.items():
        if kind == UNSUPPORTED:
            unsupported[op] += count
    return Analysis(
        id=id_,
        input=input_shapes,
        totals={total.name: total.compute(layers, facts) for total in TOTAL_METRICS},
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
