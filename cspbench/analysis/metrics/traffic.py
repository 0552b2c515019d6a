"""What is read and written: CIO, memory access cost, traffic, arithmetic intensity, copies."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.metric import (
    GRAPH_METRICS,
    LAYER_METRICS,
    TOTAL_METRICS,
    GraphMetric,
    LayerMetric,
    TotalMetric,
    at,
)
from cspbench.analysis.metrics.compute import known_macs, summed
from cspbench.analysis.metrics.fusion import fused
from cspbench.analysis.ops import CONV_KINDS, FREE_KINDS, OPS, UNSUPPORTED

_HARDNET = "HarDNet, arXiv 1909.00948"
_SHUFFLENET = "ShuffleNetV2, arXiv 1807.11164"
#: Families of the paper's Fig. 8: convolutions, pools, softmax.
PAPER_CIO_KINDS = CONV_KINDS | {"max_pool", "avg_pool", "softmax"}
#: The bytes of an operator are known even where its computation is not.
_MOVES = (frozenset(info.kind for info in OPS.values()) | {UNSUPPORTED}) - FREE_KINDS


def cio(layer: Layer) -> int:
    """Elements in + out, each input channel once whatever the groups."""
    return layer.input_elements + layer.output_elements


def memory_access_cost(layer: Layer) -> int:
    """ShuffleNetV2's MAC of one convolution or linear layer, in elements; 0 for others.

    h w (c1 + c2) + k k c1 c2 / g with stride 1; in general inputs + outputs + weights without bias.
    """
    if layer.kind not in CONV_KINDS:
        return 0
    weights = layer.weight_elements - layer.bias_elements
    return layer.input_elements + layer.output_elements + weights


def traffic_bytes(layer: Layer) -> int:
    """Bytes read + written by one call on its own: activations, weights, results. 0 for views."""
    if layer.kind in FREE_KINDS:
        return 0
    return layer.input_bytes + layer.weight_bytes + layer.output_bytes


def arithmetic_intensity(layer: Layer) -> float:
    """FLOP per byte of traffic; 0 where nothing is moved."""
    flops = 2 * known_macs(layer)
    moved = traffic_bytes(layer) if flops else 0
    return flops / moved if moved else 0.0


def traffic_bytes_fused(layers: Sequence[Layer]) -> list[Number]:
    """Traffic with convolution, normalisation and activation as one.

    What is one, and why, says `cspbench.analysis.metrics.fusion`. Operators are taken together only
    if no other one reads the values between them. The convolution carries the group's traffic
    (input, weights and bias, last output); the folded layers have 0.
    """
    return fused(layers, list(map(traffic_bytes, layers)))


def _cio_of(layers: Sequence[Layer], kinds: frozenset[str]) -> int:
    return sum(cio(layer) for layer in layers if layer.kind in kinds)


for _metric in (
    LayerMetric("cio", "elements", "elements in + out", _HARDNET, cio),
    LayerMetric(
        "memory_access_cost",
        "elements",
        "h w (c1 + c2) + k k c1 c2 / g",
        _SHUFFLENET,
        memory_access_cost,
    ),
    LayerMetric(
        "traffic_bytes", "bytes", "bytes read + written layer by layer", "definition", traffic_bytes
    ),
    LayerMetric(
        "arithmetic_intensity",
        "FLOP/byte",
        "flops / traffic_bytes",
        "Roofline, doi 10.1145/1498765.1498785",
        arithmetic_intensity,
    ),
):
    LAYER_METRICS.add(_metric)
GRAPH_METRICS.add(
    GraphMetric(
        "traffic_bytes_fused",
        "bytes",
        "traffic with convolution, norm and activation as one",
        "definition",
        traffic_bytes_fused,
    )
)
for _total in (
    TotalMetric(
        "cio_conv",
        "elements",
        "elements in + out of convolutions (and linear layers as 1x1 convolutions)",
        _HARDNET,
        lambda layers, _: _cio_of(layers, CONV_KINDS),
        CONV_KINDS,
        sum_of="cio",
        heading="CIO conv (M)",
        divisor=1e6,
        group="traffic",
        places=at(overview=(6, 2), compare=6, conventions=21, gate=3),
    ),
    TotalMetric(
        "cio_paper",
        "elements",
        "elements in + out of convolutions, pools and softmax",
        "CSPNet's Fig. 8, arXiv 1911.11929",
        lambda layers, _: _cio_of(layers, PAPER_CIO_KINDS),
        PAPER_CIO_KINDS,
        sum_of="cio",
        heading="CIO paper (M)",
        divisor=1e6,
        group="traffic",
        places=at(overview=(7, 2), compare=7, conventions=22, gate=4),
    ),
    TotalMetric(
        "memory_access_cost",
        "elements",
        "h w (c1 + c2) + k k c1 c2 / g, summed over convolutions and linear layers",
        _SHUFFLENET,
        lambda layers, _: summed("memory_access_cost", layers),
        CONV_KINDS,
        sum_of="memory_access_cost",
        group="traffic",
        places=at(compare=8, conventions=23),
    ),
    TotalMetric(
        "traffic_bytes",
        "bytes",
        "bytes read + written, every operator on its own",
        "definition",
        lambda layers, _: summed("traffic_bytes", layers),
        _MOVES,
        sum_of="traffic_bytes",
        heading="traffic (MB)",
        divisor=1e6,
        group="traffic",
        places=at(overview=(8, 1), compare=9, conventions=24),
    ),
    TotalMetric(
        "traffic_bytes_fused",
        "bytes",
        "bytes read + written with convolution, norm and activation as one",
        "definition",
        lambda layers, _: summed("traffic_bytes_fused", layers),
        _MOVES,
        sum_of="traffic_bytes_fused",
        heading="fused (MB)",
        divisor=1e6,
        group="traffic",
        places=at(overview=(9, 1), compare=10, conventions=25),
    ),
    TotalMetric(
        "copy_bytes",
        "bytes",
        "bytes that concatenation, padding and other pure copies write",
        "definition",
        lambda layers, _: sum(layer.copy_bytes for layer in layers),
        frozenset({"copy"}),
        sum_of="copy_bytes",
        heading="copies (MB)",
        divisor=1e6,
        group="traffic",
        places=at(overview=(10, 2), memory=(4, 2), compare=11, conventions=26),
    ),
):
    TOTAL_METRICS.add(_total)
