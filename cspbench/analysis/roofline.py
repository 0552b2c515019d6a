"""Roofline: a predicted time for each layer, and what bounds it. Always labelled predicted.

A layer takes at least the time of its arithmetic at the best rate of the device and the time of its
traffic at the best bandwidth (Williams, Waterman, Patterson 2009); whichever is longer bounds it.
Each layer also costs its dispatch. Pure functions: ceilings come in as numbers.

Traffic is `traffic_bytes_fused`, because backends fold norms and activations into convolutions;
bandwidth is STREAM's triad, whose two reads a write are nearest to what layers do; arithmetic is
FP32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cspbench.analysis.layer import Layer
from cspbench.analysis.ops import FREE_KINDS
from cspbench.analysis.record import Analysis

Bound = Literal["compute", "memory", "overhead"]
#: Which of the measured ceilings count.
PRECISION, BANDWIDTH = "fp32", "triad"


@dataclass(frozen=True)
class Peak:
    """Ceilings that matter for a layer: operations/s, bytes/s, seconds an operator."""

    flops_per_s: float
    bytes_per_s: float
    overhead_s: float

    @property
    def ridge(self) -> float:
        """Arithmetic intensity, in FLOPs a byte, from which on compute bounds."""
        return self.flops_per_s / self.bytes_per_s


@dataclass(frozen=True)
class Prediction:
    """Predicted time of a layer in ms, and the largest of its three parts."""

    predicted_ms: float
    bound: Bound


def predict(flops: float, traffic_bytes: float, peak: Peak) -> Prediction:
    """Predict one layer: max(compute, memory) + overhead.

    >>> predict(2e9, 1e6, Peak(1e11, 1e10, 1e-5))  # 20 ms of arithmetic, 0.1 ms of traffic
    Prediction(predicted_ms=20.01, bound='compute')
    """
    parts: dict[Bound, float] = {
        "compute": flops / peak.flops_per_s,
        "memory": traffic_bytes / peak.bytes_per_s,
        "overhead": peak.overhead_s,
    }
    bound = max(parts, key=lambda name: parts[name])
    seconds = max(parts["compute"], parts["memory"]) + parts["overhead"]
    return Prediction(round(seconds * 1e3, 9), bound)


def predict_all(layers: Iterable[tuple[float, float]], peak: Peak) -> list[Prediction]:
    """Predict layers given as (FLOPs, bytes of traffic)."""
    return [predict(flops, traffic_bytes, peak) for flops, traffic_bytes in layers]


def peak_of(ceilings: Mapping[str, Any]) -> Peak:
    """The peak in measured ceilings (the fields of ``store.ceilings.Ceilings``).

    Raises:
        KeyError: they lack FP32 or the triad.
    """
    return Peak(
        flops_per_s=ceilings["gflops"][PRECISION] * 1e9,
        bytes_per_s=ceilings["bandwidth_gbs"][BANDWIDTH] * 1e9,
        overhead_s=ceilings["overhead_us"] / 1e6,
    )


def running_layers(analysis: Analysis) -> list[Layer]:
    """The layers that cost time of their own: no views, and nothing folded into a convolution."""
    return [
        layer
        for layer in analysis.layers
        if layer.kind not in FREE_KINDS and layer["traffic_bytes_fused"] > 0
    ]


def layer_rows(analysis: Analysis, peak: Peak) -> list[dict[str, Any]]:
    """One row a running layer: what it does and moves, predicted time in ms, what bounds it.

    ``intensity`` is FLOPs a byte of fused traffic.
    """
    layers = running_layers(analysis)
    work = [(layer["flops"], layer["traffic_bytes_fused"]) for layer in layers]
    return [
        {
            "index": layer.index,
            "name": layer.name,
            "op": layer.op,
            "flops": flops,
            "traffic_bytes_fused": moved,
            "intensity": flops / moved,
            "predicted_ms": prediction.predicted_ms,
            "bound": prediction.bound,
        }
        for layer, (flops, moved), prediction in zip(
            layers, work, predict_all(work, peak), strict=True
        )
    ]


def total_ms(rows: Iterable[Mapping[str, Any]]) -> float:
    """Predicted time of all layers, one after the other, in ms."""
    return sum(float(row["predicted_ms"]) for row in rows)


def shares(rows: Iterable[Mapping[str, Any]]) -> dict[Bound, float]:
    """Share of the predicted time in layers of each bound, 0..1; all 0 without layers."""
    by_bound: dict[Bound, float] = {"compute": 0.0, "memory": 0.0, "overhead": 0.0}
    rows = list(rows)
    total = total_ms(rows)
    for row in rows:
        by_bound[row["bound"]] += row["predicted_ms"] / total
    return by_bound
