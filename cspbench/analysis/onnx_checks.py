"""Whether a layer of an ONNX graph can run at its shapes, and what to call it.

``onnx.shape_inference`` refuses much of what cannot run, but neither other channels than a
convolution has weights for, nor a window that is larger than its input, nor a Reshape to another
number of elements. Pure.
"""

from __future__ import annotations

import math

from cspbench.analysis.layer import Layer, Shape

#: Operators that put out as many elements as they read.
_SAME_SIZE = frozenset({
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "DepthToSpace",
    "SpaceToDepth",
})  # fmt: skip
_POOLS = frozenset({"MaxPool", "AveragePool"})


def problem(op_type: str, layer: Layer) -> str:
    """Why a layer cannot run, as the rest of a sentence about it; empty if it can."""
    if not layer.input_shapes or not layer.output_shapes:
        return ""
    given, out = layer.input_shapes[0], layer.output_shapes[0]
    if layer.kind == "conv":
        channels = layer.weight_shape[0 if layer.transposed else 1]
        channels *= 1 if layer.transposed else layer.groups
        if given[1] != channels:
            return f"has weights for {channels} channels, and its input {_sides(given)}"
    if (layer.kind == "conv" or op_type in _POOLS) and min(out[2:], default=1) < 1:
        window = _sides(layer.kernel)
        return f"has a window of {window}, which its input {_sides(given)} is too small for"
    if op_type in _SAME_SIZE and math.prod(given) != math.prod(out):
        return f"cannot give {_sides(given)} the shape {_sides(out)}"
    return ""


def label(layer: Layer, name: str, number: int) -> str:
    """What to call a layer that belongs to no module: its node's name, or what it is.

    >>> label(Layer(0, "", "add", "elementwise", output_shapes=((1, 64, 56, 56),)), "", 3)
    'add #3, 64x56x56'

    Args:
        layer: the layer.
        name: its node's name; may be empty.
        number: counts the layers of its operator, from 1.
    """
    if name:
        return name
    out = layer.output_shapes[0] if layer.output_shapes else ()
    if layer.kind == "conv" and layer.input_shapes and len(out) > 2:
        op = "conv transpose" if layer.transposed else "conv"
        change = f"{layer.input_shapes[0][1]} to {out[1]}"
        return f"{op} #{number}, {_sides(layer.kernel)}, {change}, {_sides(out[2:])}"
    if layer.kind == "linear" and layer.input_shapes and layer.input_shapes[0] and out:
        return f"linear #{number}, {layer.input_shapes[0][-1]} to {out[-1]}"
    return f"{layer.op} #{number}, {_sides(out[1:] or out) or '1'}"


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))
