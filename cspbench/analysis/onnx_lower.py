"""Operators of ONNX Runtime's own domain, written as those of ONNX that compute the same shapes.

ONNX Runtime's quantiser and its optimised files use them; ``onnx.shape_inference`` knows none. Only
what costs the same is rewritten: the others stay, and are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx import helper

DOMAIN = "com.microsoft"

#: From a node to the nodes that it becomes; None where it stays.
Rewrite = Callable[[Any], "list[Any] | None"]


def lower(graph: Any) -> None:
    """Rewrite the nodes of a graph, whose order stays."""
    nodes = []
    for node in graph.node:
        rewrite = _REWRITES.get(node.op_type) if node.domain == DOMAIN else None
        nodes += (rewrite(node) if rewrite else None) or [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _as(op: str, positions: Sequence[int]) -> Rewrite:
    """The same operator on the inputs at these positions; its scales and zero points are left out.

    The last ones may be missing.
    """

    def rewrite(node: Any) -> list[Any] | None:
        inputs = [node.input[place] for place in positions if place < len(node.input)]
        if not inputs or not all(inputs[:1]):
            return None
        return [_node(op, inputs, node.output, node)]

    return rewrite


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], like: Any) -> Any:
    new = helper.make_node(op, inputs, outputs, name=like.name)
    new.attribute.extend(like.attribute)
    return new


def _concat(node: Any) -> list[Any]:
    """``scale, zero point``, then each part with its own."""
    return [_node("Concat", node.input[2::3], node.output, node)]


def _fused_conv(node: Any) -> list[Any] | None:
    """A fourth input is added to the result."""
    if len(node.input) > 3 and node.input[3]:
        return None
    return _as("Conv", (0, 1, 2))(node)


def _fused_product(node: Any) -> list[Any] | None:
    flags = {one.name: one.i for one in node.attribute}
    if any(flags.get(name) for name in ("transA", "transB", "transBatchA", "transBatchB")):
        return None
    return _as("MatMul", (0, 1))(node)


def _with_bias(op: str, bias: int) -> Rewrite:
    """A product whose result is dequantised, and a bias that is added to it."""

    def rewrite(node: Any) -> list[Any]:
        added = node.input[bias] if len(node.input) > bias else ""
        product = f"{node.output[0]}/product" if added else node.output[0]
        nodes = [helper.make_node(op, node.input[:2], [product], name=node.name)]
        if added:
            nodes.append(helper.make_node("Add", [product, added], node.output, name=node.name))
        return nodes

    return rewrite


def _lstm(node: Any) -> list[Any]:
    """Its weights lie transposed, and have scales behind them."""
    turned = [f"{name}/turned" for name in node.input[1:3]]
    nodes = [
        helper.make_node("Transpose", [name], [new], perm=[0, 2, 1])
        for name, new in zip(node.input[1:3], turned, strict=True)
    ]
    read = [node.input[0], *turned, *node.input[3:8]]
    return [*nodes, _node("LSTM", read, node.output, node)]


_REWRITES: dict[str, Rewrite] = {
    "QLinearAdd": _as("Add", (0, 3)),
    "QLinearMul": _as("Mul", (0, 3)),
    "QLinearSigmoid": _as("Sigmoid", (0,)),
    "QLinearLeakyRelu": _as("LeakyRelu", (0,)),
    "QLinearAveragePool": _as("AveragePool", (0,)),
    "QLinearGlobalAveragePool": _as("GlobalAveragePool", (0,)),
    "QLinearSoftmax": _as("Softmax", (0,)),
    "QLinearConcat": _concat,
    "QGemm": _as("Gemm", (0, 3, 6)),
    "QuantizeLinear": _as("QuantizeLinear", (0, 1, 2)),
    "DequantizeLinear": _as("DequantizeLinear", (0, 1, 2)),
    # Its result is as wide as the 32 bits of MatMulInteger.
    "MatMulIntegerToFloat": _with_bias("MatMulInteger", 6),
    "DynamicQuantizeMatMul": _with_bias("MatMul", 4),
    "DynamicQuantizeLSTM": _lstm,
    "FusedConv": _fused_conv,
    "FusedGemm": _as("Gemm", (0, 1, 2)),
    "FusedMatMul": _fused_product,
}
