"""Output shapes as plain arithmetic on Python integers.

Pure functions: no torch. Formulas are those of the operators' documentation (PyTorch, ONNX);
``tests/analysis/test_shapes.py`` compares them with the real operators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cspbench.analysis.layer import Shape


def tuple_of(value: int | Sequence[int], dims: int) -> Shape:
    """``3`` -> ``(3, 3)``, ``[3]`` -> ``(3, 3)``, ``(3, 5)`` as it is, for two dimensions.

    Raises:
        ValueError: another number of values.
    """
    if isinstance(value, int):
        return (value,) * dims
    values = tuple(value)
    if len(values) not in (1, dims):
        raise ValueError(f"{values} are not the values of {dims} dimensions")
    return values * dims if len(values) == 1 else values


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Output side of a convolution or of a floor-mode pool."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_transpose_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, output_padding: int
) -> int:
    """Output side of a transposed convolution."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def pool_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Output side of a pool; in ceil mode a last window must start inside the input or padding."""
    if not ceil_mode:
        return conv_size(size, kernel, stride, padding, dilation)
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Shape of an elementwise result (numpy's rule).

    Raises:
        ValueError: the shapes do not broadcast.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for axis, side in enumerate(shape):
            have = result[offset + axis]
            if have == 1:
                result[offset + axis] = side
            elif side not in (1, have):
                listed = ", ".join(str(tuple(s)) for s in shapes)
                raise ValueError(f"shapes {listed} do not broadcast")
    return tuple(result)


def matmul(left: Shape, right: Shape) -> Shape:
    """Shape of ``left @ right`` for operands of at least two dimensions.

    Raises:
        ValueError: the contracted sides differ.
    """
    if left[-1] != right[-2]:
        raise ValueError(f"matrices {left} and {right} cannot be multiplied")
    return (*broadcast((left[:-2], right[:-2])), left[-2], right[-1])


def concatenate(shapes: Sequence[Shape], axis: int) -> Shape:
    """Shape of a concatenation along ``axis``.

    Raises:
        ValueError: another side differs.
    """
    first = shapes[0]
    axis %= len(first)
    for shape in shapes:
        if shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            listed = ", ".join(str(s) for s in shapes)
            raise ValueError(f"shapes {listed} cannot be concatenated along dimension {axis}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def reduced(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    """Shape after a reduction over ``axes``; no axes means all of them."""
    rank = len(shape)
    gone = {axis % rank for axis in axes} if axes else set(range(rank))
    if keepdim:
        return tuple(1 if axis in gone else side for axis, side in enumerate(shape))
    return tuple(side for axis, side in enumerate(shape) if axis not in gone)


def padded(shape: Shape, pads: Sequence[int]) -> Shape:
    """Shape after ``torch.nn.functional.pad``: pairs from the last dimension backwards."""
    result = list(shape)
    for pair in range(len(pads) // 2):
        result[-1 - pair] += pads[2 * pair] + pads[2 * pair + 1]
    return tuple(result)


def is_view(shape: Shape, strides: Shape, other: Shape) -> bool:
    """Whether a tensor can be seen in another shape of as many elements without a copy.

    Sides that lie in memory as one side does can be split and joined as one likes, and no others:
    ``computeStride`` of ATen.
    """
    runs: list[int] = []
    outer = 0
    for side, stride in zip(shape, strides, strict=True):
        if side == 1:
            continue
        if runs and outer == side * stride:
            runs[-1] *= side
        else:
            runs.append(side)
        outer = stride
    left = iter(runs)
    rest = 1
    for side in other:
        if side == 1:
            continue
        if rest == 1:
            rest = next(left)
        if rest % side:
            return False
        rest //= side
    return rest == 1


def covered(sides: Shape, size: Shape) -> Shape:
    """Window of which each element of a result of this ``size`` is the mean, if windows adjoin."""
    return tuple(-(-i // max(o, 1)) for i, o in zip(sides, size, strict=True))


#: Neighbours along each side that an interpolation weighs, by torch's and ONNX's names.
_WEIGHED = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), 2),
    **dict.fromkeys(("cubic", "bicubic"), 4),
}


def interpolated(mode: str, sides: Shape, size: Shape) -> Shape:
    """Window of which each element of an interpolation is the mean; () if it is a copy of one."""
    if mode == "area":
        return covered(sides, size)
    return (_WEIGHED[mode],) * len(size) if mode in _WEIGHED else ()


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Whether the elements of a tensor fill its memory, each once, in whatever order."""
    filled = 1
    for stride, side in sorted(zip(strides, shape, strict=True)):
        if side != 1:
            if stride != filled:
                return False
            filled *= side
    return True


def checked_rows(scores: Shape) -> int:
    """Bytes that ``_safe_softmax`` holds to find rows without any share: one a score and a row."""
    return math.prod(scores) + math.prod(scores[:-1])
