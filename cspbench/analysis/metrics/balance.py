"""Compute balance: how evenly multiply-accumulates and traffic are spread over layers.

The paper's computational bottleneck is the largest layer; these numbers say how much it stands out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.metric import TOTAL_METRICS, Facts, Place, TotalMetric


def largest_share(values: Sequence[Number]) -> float:
    """The largest value's share of the sum, 0..1; 0 without values."""
    total = sum(values)
    return max(values) / total if total else 0.0


def coefficient_of_variation(values: Sequence[Number]) -> float:
    """Standard deviation (of the population) / mean; 0 if all are equal or there are none."""
    if not values or not sum(values):
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) / mean


def gini(values: Sequence[Number]) -> float:
    """Gini coefficient: 0 all equal, towards 1 if one layer has everything.

    With values sorted upwards, sum over i of (2 i - n - 1) x_i / (n sum x), i from 1.
    """
    total = sum(values)
    if not total:
        return 0.0
    count = len(values)
    weighted = sum((2 * rank - count - 1) * x for rank, x in enumerate(sorted(values), 1))
    return weighted / (count * total)


def _values(layers: Sequence[Layer], name: str) -> list[Number]:
    """The metric of every layer that has any of it."""
    return [layer.values[name] for layer in layers if layer.values[name]]


def _over_layers(
    name: str, measure: Callable[[Sequence[Number]], float]
) -> Callable[[Sequence[Layer], Facts], Number]:
    return lambda layers, _: measure(_values(layers, name))


_MEASURES = (
    ("max_layer_{}_share", "share", "the largest layer's share of all", largest_share, 3),
    ("{}_variation", "1", "coefficient of variation over layers", coefficient_of_variation, 2),
    ("{}_gini", "1", "Gini coefficient over layers", gini, 3),
)
_HEADINGS = {
    "macs": ("its share of MACs", "variation of MACs", "Gini of MACs"),
    "traffic_bytes": ("largest share of traffic", "variation of traffic", "Gini of traffic"),
}
_position = 1  # the largest layer's BFLOPs come first
for _metric, _word in (("macs", "MACs"), ("traffic_bytes", "traffic")):
    for _heading, (_pattern, _unit, _summary, _function, _decimals) in zip(
        _HEADINGS[_metric], _MEASURES, strict=True
    ):
        _name = _pattern.format(_metric.removesuffix("_bytes"))
        _position += 1
        _compared = (Place("compare", 14),) if _name == "macs_gini" else ()
        TOTAL_METRICS.add(
            TotalMetric(
                _name,
                _unit,
                f"{_word}: {_summary} that have any",
                "definition",
                _over_layers(_metric, _function),
                heading=_heading,
                places=(Place("balance", _position, _decimals), *_compared),
            )
        )
