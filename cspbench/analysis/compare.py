"""Two analyses beside each other: what changes, and which layers make the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.metric import TotalMetric, shown_in
from cspbench.analysis.record import Analysis


def change(before: Number | None, after: Number | None) -> float | None:
    """(after - before) / before; None if there was nothing before, or either is not known."""
    return (after - before) / before if before and after is not None else None


def totals(first: Analysis, second: Analysis) -> list[dict[str, Any]]:
    """One row a total: both values, the relative change, the stages that change most."""
    rows: list[dict[str, Any]] = []
    for metric, _ in shown_in("compare"):
        before, after = first.totals.get(metric.name), second.totals.get(metric.name)
        rows.append(
            {
                "metric": metric.name,
                "first": before,
                "second": after,
                "change": change(before, after),
                "made_by": _made_by(metric, first, second),
            }
        )
    return rows


def by_stage(
    first: Analysis, second: Analysis, part: Callable[[Layer], Number]
) -> dict[str, tuple[Number, Number]]:
    """Sum over the layers of each stage in both; a stage that one of them lacks has 0 there."""
    sums: dict[str, list[Number]] = {}
    for side, analysis in enumerate((first, second)):
        for layer in analysis.layers:
            sums.setdefault(layer.stage, [0, 0])[side] += part(layer)
    return {stage: (pair[0], pair[1]) for stage, pair in sums.items()}


def _made_by(metric: TotalMetric, first: Analysis, second: Analysis) -> str:
    if metric.largest:
        layers = [max(a.layers, key=lambda layer: layer[metric.largest]) for a in (first, second)]
        return " -> ".join(map(_called, layers))
    if not metric.sum_of:
        return ""
    pairs = by_stage(first, second, metric.of_layer)
    ordered = sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    total = first.totals.get(metric.name) or 1
    return ", ".join(
        f"{stage or 'root'} {(after - before) / total:+.1%}"
        for stage, (before, after) in ordered[:3]
        if after != before
    )


def _called(layer: Layer) -> str:
    return f"{layer.name or layer.op} ({layer.op})"


def layer_rows(first: Analysis, second: Analysis, metric: str = "macs") -> list[dict[str, Any]]:
    """One row a layer name that differs in ``metric``, largest difference first."""
    sides: list[dict[str, Number]] = []
    for analysis in (first, second):
        sums: dict[str, Number] = {}
        for layer in analysis.layers:
            sums[layer.name] = sums.get(layer.name, 0) + layer[metric]
        sides.append(sums)
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [
        {
            "layer": name,
            "metric": metric,
            "first": sides[0].get(name, 0),
            "second": sides[1].get(name, 0),
            "difference": sides[1].get(name, 0) - sides[0].get(name, 0),
        }
        for name in names
    ]
    changed = [row for row in rows if row["difference"]]
    return sorted(changed, key=lambda row: -abs(float(row["difference"])))
