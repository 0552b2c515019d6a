"""What the inputs of ONNX operators are for: factors, weights, scales, settings; by position."""

from __future__ import annotations

from typing import Any, NamedTuple


class Operands(NamedTuple):
    """Where a product has its factors and its bias among its inputs."""

    factors: tuple[int, int]
    bias: int = -1


PRODUCTS: dict[str, Operands] = {
    "Conv": Operands((0, 1), 2),
    "ConvTranspose": Operands((0, 1), 2),
    "DeformConv": Operands((0, 1), 3),
    "ConvInteger": Operands((0, 1)),
    "QLinearConv": Operands((0, 3), 8),
    "Gemm": Operands((0, 1), 2),
    "MatMul": Operands((0, 1)),
    "MatMulInteger": Operands((0, 1)),
    "Einsum": Operands((0, 1)),
    "QLinearMatMul": Operands((0, 3)),
}
#: Where operators read scales and zero points of quantised tensors.
QUANTITIES: dict[str, frozenset[int]] = {
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "ConvInteger": frozenset({2, 3}),
    "MatMulInteger": frozenset({2, 3}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
}
_SECOND = frozenset({1})
#: Where operators read what sets them up: sizes, bounds, indices, scales.
SETTINGS: dict[str, frozenset[int]] = QUANTITIES | {
    **dict.fromkeys(
        ("Reshape", "Squeeze", "Unsqueeze", "Expand", "Tile", "TopK", "Split", "Gather", "CumSum",
         "GatherElements", "GatherND", "Trilu", "GridSample", "Upsample", "ReduceMean", "ReduceSum",
         "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp"),
        _SECOND,
    ),
    "Slice": frozenset({1, 2, 3, 4}),
    "Pad": frozenset({1, 2, 3}),
    "Resize": frozenset({1, 2, 3}),
    "Clip": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "OneHot": frozenset({0, 1, 2}),
    "Where": frozenset({0}),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), frozenset({4, 5, 6})),
}  # fmt: skip
_SCALE_AND_BIAS = frozenset({1, 2})
#: Where operators read weights, of any size, which may be made in the graph.
WEIGHTS: dict[str, frozenset[int]] = {
    **{op: frozenset((*one.factors, one.bias)) for op, one in PRODUCTS.items()},
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization",
         "RMSNormalization"),
        _SCALE_AND_BIAS,
    ),
    "PRelu": _SECOND,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), frozenset({1, 2, 3})),
}  # fmt: skip


def data_of(node: Any) -> list[str]:
    """Names that a node reads, without those of its settings."""
    settings = SETTINGS.get(node.op_type, frozenset())
    return [name for place, name in enumerate(node.input) if name and place not in settings]
