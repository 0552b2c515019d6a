"""Roofline: a predicted time for each layer, and what bounds it. Always labelled predicted.

A layer takes at least the time of its arithmetic at the best rate of the device and the time of its
traffic at the best bandwidth (Williams, Waterman, Patterson 2009); whichever is longer bounds it.
Each layer also costs its dispatch. Pure functions: ceilings come in as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Bound = Literal["compute", "memory", "overhead"]


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
