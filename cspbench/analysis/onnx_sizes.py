"""Operators of shape arithmetic in ONNX graphs, and how large their results are.

Shapes are computed with the operators of this list. The others have no place there, and some of
them cost minutes or gigabytes for a few bytes of input (a regular expression, a window function, a
padding, GatherElements with large indices), so they are never evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

Arrays = Sequence[np.ndarray]
#: From a node and its inputs to the elements of its results together: exact or an upper bound.
ResultSize = Callable[[Any, Arrays], int]

_ELEMENTWISE = (
    "Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual",
    "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
    "Round", "Sign", "Sqrt", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
#: Their results are a part of the inputs, or as many numbers.
_REARRANGING = (
    "Concat", "CumSum", "Flatten", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "ScatterND", "Size", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip


def _size(sides: Sequence[Any]) -> int:
    """Elements of a shape; negative sides, which the evaluator refuses, count as none."""
    return math.prod(max(int(side), 0) for side in sides)


def _broadcast(*shapes: Sequence[Any]) -> int:
    backwards = zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    return _size([max(sides) for sides in backwards])


def _elementwise(_node: Any, inputs: Arrays) -> int:
    return _broadcast(*(array.shape for array in inputs))


def _together(_node: Any, inputs: Arrays) -> int:
    return int(sum(array.size for array in inputs)) + 1  # Size gives one number even of no element


def _constant(node: Any, _inputs: Arrays) -> int:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return _size(attribute.t.dims)
    if attribute.name in ("value_float", "value_int"):
        return 1
    if attribute.name in ("value_floats", "value_ints"):
        return max(len(attribute.floats), len(attribute.ints))
    raise ValueError(f"{attribute.name} holds no numbers for shapes")


def _gather(node: Any, inputs: Arrays) -> int:
    data, indices = inputs
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return int(data.size // max(data.shape[axis], 1) * indices.size)


def _range(_node: Any, inputs: Arrays) -> int:
    start, limit, step = (array.item() for array in inputs)
    return int(max(math.ceil((limit - start) / step), 0))


RESULT_SIZES: dict[str, ResultSize] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REARRANGING, _together),
    "Constant": _constant,
    "ConstantOfShape": lambda _node, inputs: _size(inputs[0].tolist()),
    "Expand": lambda _node, inputs: _broadcast(inputs[0].shape, inputs[1].tolist()),
    "Gather": _gather,
    "NonZero": lambda _node, inputs: inputs[0].size * max(inputs[0].ndim, 1),
    "Range": _range,
    "Tile": lambda _node, inputs: inputs[0].size * _size(inputs[1].tolist()),
}
