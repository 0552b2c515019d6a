"""Memory without running: what kernels take, what is copied, what the feature pyramid takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cspbench.analysis.layer import Layer
from cspbench.analysis.metric import (
    LAYER_METRICS,
    TOTAL_METRICS,
    Facts,
    LayerMetric,
    TotalMetric,
    at,
)
from cspbench.analysis.metrics.compute import summed

#: First component of the paths of what follows the backbone in a detector.
NECK = "neck"


#: Of the fused attention: keys of a block, and queries of one by the least number of queries.
_KEYS, _QUERIES = 512, ((768, 256), (192, 64), (0, 32))
_CONVOLUTIONS = {
    *("convolution", "_convolution"),
    *(f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)),
}
#: Input elements up to which torch computes a convolution of one image by itself, not by oneDNN.
_SMALL = 20_480


def kernel_bytes(layer: Layer) -> int:
    """Bytes that a kernel of torch's own takes and gives back within its call; one thread, CPU.

    Those are the columns of a small convolution and the blocks of the fused attention. What oneDNN
    takes depends on processor and library and is not among them.
    """
    if layer.op in _CONVOLUTIONS and layer.input_shapes:
        return _columns(layer) * 4
    if layer.op == "scaled_dot_product_attention" and len(layer.input_shapes) > 1:
        return _blocks(layer) * max(4, layer.output_bytes // max(layer.output_elements, 1))
    return 0


def _columns(layer: Layer) -> int:
    """Elements of the matrix of columns that torch's own convolution multiplies.

    torch takes its own for one image of float32 without groups and with few elements.
    """
    image = layer.input_shapes[0]
    kernel = (1, *layer.kernel)[-2:]
    if layer.input_bytes != 4 * layer.input_elements or layer.groups > 1 or image[0] > 1:
        return 0
    if math.prod(image[:4]) > _SMALL or min(kernel) > 3:
        return 0
    window = math.prod(layer.kernel)
    if layer.transposed:
        return layer.output_shapes[0][1] * window * math.prod(image[2:])
    if window == 1 and {*layer.stride} == {1}:
        return 0  # the image itself is the matrix
    return image[1] * window * math.prod(layer.output_shapes[0][2:])


def _blocks(layer: Layer) -> int:
    """Elements that one thread of the fused attention works on: scores, sums, results."""
    queries, width = layer.output_shapes[0][-2:]
    block = next(size for least, size in _QUERIES if queries >= least)
    keys = min(_KEYS, layer.input_shapes[1][-2])
    return min(block, queries) * (keys + 2 + width)


def _largest_kernel(layers: Sequence[Layer], _: Facts) -> int:
    return max((int(layer.values["kernel_bytes"]) for layer in layers), default=0)


def concatenation_share(layers: Sequence[Layer]) -> float:
    """Share of the traffic that concatenations cause (they read and write every byte), 0..1."""
    total = summed("traffic_bytes", layers)
    caused = summed("traffic_bytes", [layer for layer in layers if layer.op == "cat"])
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


LAYER_METRICS.add(
    LayerMetric(
        "kernel_bytes",
        "bytes",
        "bytes that a kernel of torch's own takes and gives back within its call",
        "torch's CPU kernels",
        kernel_bytes,
    )
)
for _total in (
    TotalMetric(
        "peak_kernel_bytes",
        "bytes",
        "the largest kernel_bytes; they are not among peak_live_bytes",
        "torch's CPU kernels",
        _largest_kernel,
        largest="kernel_bytes",
        heading="kernels take (MB)",
        divisor=1e6,
        group="memory",
        places=at(memory=8, conventions=34),
    ),
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
