"""Multiply-accumulates, floating-point operations and the paper's BFLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.metric import (
    LAYER_METRICS,
    TOTAL_METRICS,
    LayerMetric,
    TotalMetric,
    at,
)
from cspbench.analysis.ops import CONV_KINDS, MAC_KINDS

_PAPER = "CSPNet, arXiv 1911.11929; Darknet's own count (AlexeyAB/darknet)"
_RADOSAVOVIC = "activations of RegNet, arXiv 2003.13678; fvcore, timm's Macts"
#: Families whose operations the paper's convention counts.
PAPER_KINDS = CONV_KINDS | {"max_pool"}


def macs(layer: Layer) -> int:
    """Multiply-accumulates of one call; 0 for what does not multiply and accumulate.

    Convolution: outputs x weights behind each output = N oh ow cout x (cin / g) kh kw; transposed:
    inputs x weights that each input feeds. Linear: outputs x input features. Matrix product:
    outputs x contracted length (``kernel`` of an Einsum), with a weight as one factor or without.
    Attention (query L x E, keys S x E, values S x V): heads x L x S x (E + V). Bias is not counted.
    """
    kind = layer.kind
    if kind == "conv":
        per_element = math.prod(layer.weight_shape[1:])
        if layer.transposed:
            return math.prod(layer.input_shapes[0]) * per_element
        return layer.output_elements * per_element
    if kind in ("linear", "matmul"):
        return _product_macs(layer)
    if kind == "attention":
        return _attention_rows(layer) * sum(_attention_widths(layer))
    return 0


def known_macs(layer: Layer) -> int:
    """`macs` of a layer, computed once: several metrics are made of it."""
    if layer.kind not in MAC_KINDS:
        return 0
    known = layer.values.get("macs")
    if known is None:
        known = layer.values["macs"] = macs(layer)
    return int(known)


def _attention_rows(layer: Layer) -> int:
    """Pairs of a query and a key: heads x L x S; fewer heads of one operand serve all of another.

    Leading dimensions broadcast; grouped queries share the heads of keys and values.
    """
    if not layer.output_elements:
        return 0
    query, keys, values = layer.input_shapes[:3]
    leading = (reversed(shape[:-2]) for shape in (query, keys, values))
    heads = math.prod(max(sides) for sides in zip_longest(*leading, fillvalue=1))
    return heads * query[-2] * keys[-2]


def _attention_widths(layer: Layer) -> tuple[int, int]:
    """Lengths of the two products of attention's pairs: E of a query, V of a value."""
    query, _, values = layer.input_shapes[:3]
    return query[-1], values[-1]


def _product_macs(layer: Layer) -> int:
    if layer.op == "einsum" and layer.kernel:  # from a file; torch writes its products out
        return layer.output_elements * layer.kernel[0]
    return _linear_macs(layer) if layer.kind == "linear" else _matmul_macs(layer)


def _linear_macs(layer: Layer) -> int:
    if layer.op == "bilinear":  # x1 W, then its product with x2
        _, first, second = layer.weight_shape
        return layer.output_elements * (first + 1) * second
    if layer.op == "sparse_mm":  # each stored element times each column
        return layer.weight_elements * layer.output_shapes[0][-1]
    return (
        layer.output_elements
        * _summed(layer, layer.weight_shape)
        * _contracted(layer.input_shapes[0], layer.weight_shape, layer.output_shapes[0])
    )


def _contracted(left: Shape, right: Shape, out: Shape) -> int:
    """Length of the sum in a product of matrices, whichever factor is the weight or transposed.

    (m, k) times (k, n) gives (m, n), so m k x k n / (m n) = k^2; leading dimensions are batches.
    """
    for vector in (left, right):
        if len(vector) == 1:
            return vector[0]
    results = math.prod(out[-2:])
    return math.isqrt(math.prod(left[-2:]) * math.prod(right[-2:]) // results) if results else 0


def _matmul_macs(layer: Layer) -> int:
    # addmm and baddbmm carry the added matrix first.
    left = layer.input_shapes[-2] if len(layer.input_shapes) > 1 else layer.input_shapes[0]
    return layer.output_elements * (left[-1] if left else 1) * _summed(layer, left)


def _summed(layer: Layer, factor: Shape) -> int:
    """Products that are summed into one result: ``addbmm`` sums those of its batch."""
    return factor[0] if layer.op == "addbmm" else 1


def activations(layer: Layer) -> int:
    """Elements that the products of one call put out, weights of attention included.

    A fused attention puts out heads x L x S of its first product and heads x L x V of its second,
    as the two matrix products do that it stands for.
    """
    if layer.kind == "attention":
        return _attention_rows(layer) + layer.output_elements
    return layer.output_elements if layer.kind in MAC_KINDS else 0


def paper_flops(layer: Layer) -> int:
    """Operations of one call as the paper counts them.

    2 x MACs of convolutions and linear layers, and k k c oh ow of max-pools. A channel max-pool
    (maxout) is Darknet's max-pool of size 1 over depth: one operation an input element, which is
    its depth (in ``kernel``) times the output.
    """
    if layer.kind in CONV_KINDS:
        return 2 * known_macs(layer)
    if layer.kind != "max_pool":
        return 0
    return math.prod(layer.kernel) * layer.output_elements


def summed(name: str, layers: Sequence[Layer]) -> int:
    """Sum of a derived whole number over layers."""
    return int(sum([layer.values[name] for layer in layers]))


def _macs_of(layers: Sequence[Layer], kinds: frozenset[str]) -> int:
    return int(sum([layer.values["macs"] for layer in layers if layer.kind in kinds]))


for _metric in (
    LayerMetric("macs", "MAC", "multiply-accumulates", "definition", known_macs),
    LayerMetric("flops", "FLOP", "2 x MACs", "definition", lambda layer: 2 * known_macs(layer)),
    LayerMetric("paper_flops", "FLOP", "operations as the paper counts", _PAPER, paper_flops),
    LayerMetric(
        "activations", "elements", "elements that products put out", _RADOSAVOVIC, activations
    ),
    LayerMetric(
        "bflops", "1e9 FLOP", "paper_flops / 1e9", _PAPER, lambda layer: paper_flops(layer) / 1e9
    ),
):
    LAYER_METRICS.add(_metric)

_MATMUL = frozenset({"matmul", "attention"})
for _total in (
    TotalMetric(
        "macs",
        "MAC",
        "multiply-accumulates of convolutions, linear layers and matrix products",
        "definition; equals fvcore by operator and half of FlopCounterMode",
        lambda layers, _: summed("macs", layers),
        MAC_KINDS,
        sum_of="macs",
        heading="GMACs",
        divisor=1e9,
        column="macs_g",
        group="compute",
        places=at(overview=3, cases=2, compare=3, conventions=11, gate=1),
    ),
    TotalMetric(
        "macs_conv",
        "MAC",
        "multiply-accumulates of convolutions alone",
        "definition",
        lambda layers, _: _macs_of(layers, frozenset({"conv"})),
        frozenset({"conv"}),
        group="compute",
        places=at(conventions=12),
    ),
    TotalMetric(
        "macs_linear",
        "MAC",
        "multiply-accumulates of linear layers alone",
        "definition",
        lambda layers, _: _macs_of(layers, frozenset({"linear"})),
        frozenset({"linear"}),
        group="compute",
        places=at(conventions=13),
    ),
    TotalMetric(
        "macs_matmul",
        "MAC",
        "multiply-accumulates between activations (attention)",
        "definition",
        lambda layers, _: _macs_of(layers, _MATMUL),
        _MATMUL,
        group="compute",
        places=at(conventions=14),
    ),
    TotalMetric(
        "flops",
        "FLOP",
        "2 x MACs: a multiplication and an addition each",
        "definition; equals FlopCounterMode",
        lambda layers, _: 2 * summed("macs", layers),
        MAC_KINDS,
        sum_of="flops",
        group="compute",
        places=at(conventions=15),
    ),
    TotalMetric(
        "bflops",
        "1e9 FLOP",
        "2 x MACs of convolutions and linear layers + k k c oh ow of max-pools, / 1e9",
        _PAPER,
        lambda layers, _: summed("paper_flops", layers) / 1e9,
        PAPER_KINDS,
        sum_of="bflops",
        heading="BFLOPs",
        column="bflops",
        group="compute",
        places=at(overview=4, cases=3, compare=2, conventions=16),
    ),
    TotalMetric(
        "activations",
        "elements",
        "elements that convolutions, linear layers and matrix products put out",
        _RADOSAVOVIC,
        lambda layers, _: summed("activations", layers),
        MAC_KINDS,
        sum_of="activations",
        group="compute",
        places=at(conventions=18),
    ),
    TotalMetric(
        "max_layer_bflops",
        "1e9 FLOP",
        "the paper's computational bottleneck: the largest layer",
        _PAPER,
        lambda layers, _: max((int(la.values["paper_flops"]) for la in layers), default=0) / 1e9,
        largest="bflops",
        heading="largest layer (BFLOPs)",
        group="compute",
        places=at(overview=(5, 4), balance=(1, 4), compare=1, conventions=17),
    ),
):
    TOTAL_METRICS.add(_total)
