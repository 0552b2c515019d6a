"""Two analyses beside each other: what changes, and which layers make the change."""

from __future__ import annotations

from typing import Any

from cspbench.analysis.metrics.traffic import PAPER_CIO_KINDS
from cspbench.analysis.ops import CONV_KINDS
from cspbench.analysis.record import Analysis, Layer, Number

#: Totals that are compared, in the order of the table.
COMPARED: tuple[str, ...] = (
    *("max_layer_bflops", "bflops", "macs", "params", "params_conv", "cio_conv", "cio_paper"),
    *("memory_access_cost", "traffic_bytes", "traffic_bytes_fused", "copy_bytes"),
    *("peak_live_bytes", "saved_for_backward_bytes", "macs_gini"),
)
#: Total -> the layer metric that it sums over all layers.
_SUMMED = {
    "bflops": "bflops",
    "macs": "macs",
    "params": "params",
    "params_conv": "params_conv",
    "memory_access_cost": "memory_access_cost",
    "traffic_bytes": "traffic_bytes",
    "traffic_bytes_fused": "traffic_bytes_fused",
    "copy_bytes": "copy_bytes",
    "saved_for_backward_bytes": "saved_for_backward_bytes",
}

_CIO = {"cio_conv": CONV_KINDS, "cio_paper": PAPER_CIO_KINDS}


def change(before: Number, after: Number) -> float | None:
    """(after - before) / before; None if there was nothing before."""
    return (after - before) / before if before else None


def totals(first: Analysis, second: Analysis) -> list[dict[str, Any]]:
    """One row a total: both values, the relative change, the stages that change most."""
    rows: list[dict[str, Any]] = []
    for name in COMPARED:
        before, after = first.totals[name], second.totals[name]
        rows.append(
            {
                "metric": name,
                "first": before,
                "second": after,
                "change": change(before, after),
                "made_by": _made_by(name, first, second),
            }
        )
    return rows


def by_stage(
    first: Analysis, second: Analysis, metric: str, kinds: frozenset[str] | None = None
) -> dict[str, tuple[Number, Number]]:
    """Sum of a layer metric per stage in both, over layers of ``kinds`` (None: all).

    A stage that one of them lacks has 0 there.
    """
    sums: dict[str, list[Number]] = {}
    for side, analysis in enumerate((first, second)):
        for layer in analysis.layers:
            if kinds is None or layer.kind in kinds:
                sums.setdefault(layer.stage, [0, 0])[side] += layer[metric]
    return {stage: (pair[0], pair[1]) for stage, pair in sums.items()}


def largest_layer(analysis: Analysis) -> Layer:
    """The layer with the most operations by the paper's convention."""
    return max(analysis.layers, key=lambda layer: layer["bflops"])


def peak_layer(analysis: Analysis) -> Layer:
    """The layer during which most activations are alive."""
    return max(analysis.layers, key=lambda layer: layer.live_bytes)


def _made_by(name: str, first: Analysis, second: Analysis) -> str:
    if name == "max_layer_bflops":
        return f"{_called(largest_layer(first))} -> {_called(largest_layer(second))}"
    if name == "peak_live_bytes":
        return f"{_called(peak_layer(first))} -> {_called(peak_layer(second))}"
    if name in _CIO:
        pairs = by_stage(first, second, "cio", _CIO[name])
    elif name in _SUMMED:
        pairs = by_stage(first, second, _SUMMED[name])
    else:
        return ""
    ordered = sorted(pairs.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    total = first.totals[name] or 1
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
