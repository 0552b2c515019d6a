"""Memory without running: what is alive, what is copied, what the feature pyramid takes."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.analysis.layer import Layer
from cspbench.analysis.metric import TOTAL_METRICS, Facts, TotalMetric, at

#: First component of the paths of what follows the backbone in a detector.
NECK = "neck"


def concatenation_share(layers: Sequence[Layer]) -> float:
    """Share of the traffic that concatenations cause (they read and write every byte), 0..1."""
    total = sum(int(layer.values["traffic_bytes"]) for layer in layers)
    caused = sum(int(layer.values["traffic_bytes"]) for layer in layers if layer.op == "cat")
    return caused / total if total else 0.0


def in_neck(layer: Layer) -> bool:
    """True if the layer belongs to the neck of one of our detectors."""
    return layer.name.partition(".")[0] == NECK


def pyramid_written_bytes(layers: Sequence[Layer]) -> int:
    """Bytes that the layers of the neck write: the memory spent to generate the pyramid."""
    return sum(layer.output_bytes for layer in layers if in_neck(layer) and layer.kind != "view")


def pyramid_peak_bytes(layers: Sequence[Layer]) -> int:
    """Largest live memory while the neck runs; 0 without a neck."""
    return max((layer.live_bytes for layer in layers if in_neck(layer)), default=0)


def _written(layers: Sequence[Layer], _: Facts) -> int:
    return pyramid_written_bytes(layers)


def _peak(layers: Sequence[Layer], _: Facts) -> int:
    return pyramid_peak_bytes(layers)


def _share(layers: Sequence[Layer], _: Facts) -> float:
    return concatenation_share(layers)


for _total in (
    TotalMetric(
        "concatenation_traffic_share",
        "share",
        "share of traffic_bytes that concatenations cause",
        "definition",
        _share,
        heading="concatenation's share of traffic",
        places=at(memory=(5, 4)),
    ),
    TotalMetric(
        "pyramid_written_bytes",
        "bytes",
        "bytes that the neck's layers write",
        "CSPNet's claim on feature pyramids, arXiv 1911.11929",
        _written,
        heading="pyramid writes (MB)",
        divisor=1e6,
        places=at(memory=6),
    ),
    TotalMetric(
        "pyramid_peak_bytes",
        "bytes",
        "largest live memory while the neck runs",
        "CSPNet's claim on feature pyramids, arXiv 1911.11929",
        _peak,
        heading="peak in the pyramid (MB)",
        divisor=1e6,
        places=at(memory=7),
    ),
):
    TOTAL_METRICS.add(_total)
