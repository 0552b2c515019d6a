"""Operators of ONNX Runtime's own domain, written as those of ONNX that compute the same shapes.

ONNX Runtime's quantiser and its optimised files use them; ``onnx.shape_inference`` knows none. Only
what costs the same is rewritten: the others stay, and are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx import TensorProto, helper

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


def _fused(op: str) -> Rewrite:
    """A product, a fourth input that is added to it, and the activation of the sum."""

    def rewrite(node: Any) -> list[Any] | None:
        values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        then = values.get("activation", b"").decode()
        added = node.input[3] if len(node.input) > 3 else ""
        out = node.output[0]
        value = f"{out}/product" if added or then else out
        product = helper.make_node(op, node.input[:3], [value], name=node.name)
        product.attribute.extend(
            one for one in node.attribute if not one.name.startswith("activation")
        )
        nodes = [product]
        if added:
            total = f"{out}/sum" if then else out
            nodes.append(helper.make_node("Add", [value, added], [total]))
            value = total
        if then:
            nodes.append(helper.make_node(then, [value], [out]))
        return nodes

    return rewrite


def _fused_product(node: Any) -> list[Any]:
    """A product of transposed factors is an Einsum, which moves none of them."""
    flags = {one.name for one in node.attribute if one.i}
    terms = []
    for which, rows, columns in (("A", "i", "j"), ("B", "j", "k")):
        first, last = (columns, rows) if f"trans{which}" in flags else (rows, columns)
        rows_lead = f"transBatch{which}" in flags  # they lie before the dimensions of the batch
        terms.append(f"{first}...{last}" if rows_lead else f"...{first}{last}")
    if terms == ["...ij", "...jk"]:
        return [helper.make_node("MatMul", node.input[:2], node.output, name=node.name)]
    return [helper.make_node("Einsum", node.input[:2], node.output, name=node.name,
                             equation=f"{','.join(terms)}->...ik")]  # fmt: skip


def _quick_gelu(node: Any) -> list[Any]:
    """``x sigmoid(alpha x)``, which is SiLU where alpha is 1."""
    alpha = next((one.f for one in node.attribute if one.name == "alpha"), 1.702)
    x, out = node.input[0], node.output[0]
    nodes = []
    scaled = x
    if alpha != 1:
        scaled = f"{out}/scaled"
        nodes += [_number(f"{out}/alpha", alpha),
                  helper.make_node("Mul", [x, f"{out}/alpha"], [scaled])]  # fmt: skip
    nodes.append(helper.make_node("Sigmoid", [scaled], [f"{out}/sigmoid"], name=node.name))
    return [*nodes, helper.make_node("Mul", [x, f"{out}/sigmoid"], [out])]


def _gelu(node: Any) -> list[Any]:
    """As exporters write it, by the error function; a second input is added to the first before."""
    x, out = node.input[0], node.output[0]
    names = {one: f"{out}/{one}" for one in ("root", "one", "half", "div", "erf", "add", "mul")}
    nodes = [_number(names["root"], 2**0.5), _number(names["one"], 1), _number(names["half"], 0.5)]
    if len(node.input) > 1 and node.input[1]:
        nodes.append(helper.make_node("Add", node.input[:2], [f"{out}/biased"]))
        x = f"{out}/biased"
    steps = (
        ("Div", (x, names["root"]), names["div"]), ("Erf", (names["div"],), names["erf"]),
        ("Add", (names["erf"], names["one"]), names["add"]),
        ("Mul", (x, names["add"]), names["mul"]), ("Mul", (names["mul"], names["half"]), out),
    )  # fmt: skip
    return [*nodes, *(helper.make_node(op, read, [made]) for op, read, made in steps)]


def _skip_norm(norm: str, bias: int) -> Rewrite:
    """The sum of two activations, which may be put out besides, and its normalisation."""

    def rewrite(node: Any) -> list[Any]:
        biased = len(node.input) > bias and node.input[bias]
        total = node.output[3] if len(node.output) > 3 and node.output[3] else ""
        total = total or f"{node.output[0]}/sum"
        plain = f"{total}/plain" if biased else total
        nodes = [helper.make_node("Add", node.input[:2], [plain], name=node.name)]
        if biased:
            nodes.append(helper.make_node("Add", [plain, node.input[bias]], [total]))
        nodes.append(helper.make_node(norm, [total, *node.input[2:bias]], node.output[:1]))
        return nodes

    return rewrite


def _number(name: str, value: float) -> Any:
    tensor = helper.make_tensor(name, TensorProto.FLOAT, (), [value])
    return helper.make_node("Constant", [], [name], value=tensor)


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
    "FusedConv": _fused("Conv"),
    "FusedGemm": _fused("Gemm"),
    "FusedMatMul": _fused_product,
    "SkipLayerNormalization": _skip_norm("LayerNormalization", 4),
    "SkipSimplifiedLayerNormalization": _skip_norm("RMSNormalization", 3),
    "QuickGelu": _quick_gelu,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _gelu,
}
