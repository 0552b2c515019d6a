"""An Einsum of ONNX as the product that it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Recorder, Value, Weight


def record_einsum(
    recorder: Recorder,
    equation: str,
    shapes: Sequence[Shape],
    values: Sequence[Value],
    weights: Sequence[Weight],
    outputs: Sequence[Value],
) -> None:
    """Record one node: a product of two factors, or what it does to one.

    Args:
        recorder: gets the layer.
        equation: of the node.
        shapes: of its operands, in their order.
        values: the operands that are activations.
        weights: those that are not.
        outputs: of the node.

    Raises:
        ValueError: more than two factors, whose order decides the cost.
    """
    if len(shapes) > 2:
        raise ValueError(f"it has {len(shapes)} factors, and their order is not in the file")
    if len(shapes) < 2:
        summed = outputs[0].elements < values[0].elements
        op = "sum" if summed else "transpose_copy"
        recorder.record(op, values, outputs, copied=not summed)
        return
    kernel = (contracted(equation, shapes),)
    if len(weights) == 1:
        recorder.record("einsum", values, outputs, weights[0], kernel=kernel, kind="linear")
    else:
        recorder.record("einsum", values, outputs, others=weights, kernel=kernel)


def contracted(equation: str, shapes: Sequence[Shape]) -> int:
    """Products that are summed into one element of the result of two factors.

    ``bij,bkj->bik`` sums over j. A letter that only one factor has, and the result has not, is
    summed before the product. ``...`` stands for leading dimensions, which broadcast.

    >>> contracted("bij, bkj -> bik", [(2, 3, 8), (2, 5, 8)])
    8
    """
    factors = _factors(equation, shapes)
    out = _result(equation, factors)
    left, right = factors
    shared = (one for one in left if one in right and one not in out)
    return math.prod(max(left[one], right[one]) for one in shared)


def result_shape(equation: str, shapes: Sequence[Shape]) -> Shape:
    """The shape of the result.

    >>> result_shape("...ij,...kj->...ik", [(2, 3, 8), (2, 5, 8)])
    (2, 3, 5)

    Raises:
        ValueError: shapes that do not fit the equation.
    """
    factors = _factors(equation, shapes)
    return tuple(
        max(factor[one] for factor in factors if one in factor)
        for one in _result(equation, factors)
    )


def _factors(equation: str, shapes: Sequence[Shape]) -> list[dict[str, int]]:
    """The sides of each factor by letter."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    return [_letters(term, shape) for term, shape in zip(terms, shapes, strict=True)]


def _letters(term: str, shape: Shape) -> dict[str, int]:
    """Sides by letter; those of the ellipsis by their place from the right."""
    before, dots, after = term.partition("...")
    rest = len(shape) - len(before) - len(after)
    many = [f".{place}" for place in range(rest, 0, -1)] if dots else []
    return dict(zip([*before, *many, *after], shape, strict=True))


def _result(equation: str, factors: Sequence[dict[str, int]]) -> list[str]:
    """Letters of the result in their order: without an arrow those that occur once."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    dots = {one for factor in factors for one in factor if one[0] == "."}
    many = sorted(dots, key=lambda one: -int(one[1:]))
    if not arrow:
        return [*many, *sorted(one for one in given if one.isalpha() and given.count(one) == 1)]
    before, ellipsis, after = result.partition("...")
    return [*before, *(many if ellipsis else []), *after]
