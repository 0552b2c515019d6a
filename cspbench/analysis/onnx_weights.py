"""What the constants of an ONNX graph are: parameters by their role, whatever stores them.

A tensor of the file is a parameter if an operator reads it as one: the weight or bias of a
product, scale and bias of a normalisation, a slope, a table of rows, or an operand of more than one
element beside an activation. It may be an initializer or a Constant node, quantised, and read
through operators on constants alone (Reshape, Cast, DequantizeLinear). Scales and zero points,
bounds, sizes and single numbers set an operator up; they are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import onnx

from cspbench.analysis.layer import Shape
from cspbench.analysis.onnx_fold import Origins
from cspbench.analysis.onnx_operands import SETTINGS, WEIGHTS, data_of
from cspbench.analysis.onnx_ops import family_of, name_of
from cspbench.analysis.ops import UNSUPPORTED
from cspbench.analysis.recorder import Weight

#: Where batch normalisation reads its running statistics.
_STATISTICS = (3, 4)

_TYPES = onnx.TensorProto
#: Types in which weights are stored. Those of 32 bits hold quantised biases, and also sizes.
_NUMBERS = frozenset(
    value
    for name, value in _TYPES.DataType.items()
    if name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT4", "UINT4")
    or name.startswith("FLOAT8")
)


class Constants:
    """The constants of a graph.

    Attributes:
        weights: by their names, with their roles (`Weight`).
        computed: numbers of the nodes that read constants alone, and those of questions about
            shapes. They cost nothing: engines compute them once, before the first inference.
        params: elements of the parameters.
        statistics: elements of running statistics.
        weight_bytes: bytes of both as they are stored.
    """

    def __init__(
        self,
        graph: Any,
        origins: Origins,
        shape_of: Callable[[str], Shape | None],
        bytes_of: Callable[[int], int],
    ) -> None:
        self.weights: dict[str, Weight] = {}
        self.computed: set[int] = set()
        self._shape_of = shape_of
        self._stored: dict[str, Weight] = {}
        self._numbers: set[str] = set()
        self._parts: dict[str, tuple[str, ...]] = {}
        self._roles: dict[str, str] = {}
        self._scales: set[str] = set()
        for tensor in graph.initializer:
            self._add(tensor, origins.get(tensor.name), bytes_of(tensor.data_type))
        for number, node in enumerate(graph.node):
            if self._is_computed(node):
                self.computed.add(number)
                self._derive(node)
            else:
                self._assign(node)
        self._finish()

    def _add(self, tensor: Any, origin: tuple[str, ...] | None, itemsize: int) -> None:
        name, weight = tensor.name, Weight(tuple(tensor.dims), itemsize, "constant")
        if origin:
            self._parts[name] = tuple(part for part in origin if part in self._stored)
            self._base(weight, self._parts[name])
        else:
            self._store(name, weight)
            if origin is None and tensor.data_type in _NUMBERS:
                self._numbers.add(name)
        self.weights[name] = weight

    def _store(self, name: str, weight: Weight) -> None:
        """A tensor of the file, or one that is made of nothing but its shape."""
        self._stored[name] = weight
        self._parts[name] = (name,)

    def _is_computed(self, node: Any) -> bool:
        kind = family_of(name_of(node.op_type, node.domain))
        if kind == "create":  # a question about shapes
            return True
        inner = any(one.HasField("g") or one.graphs for one in node.attribute)
        known = kind != UNSUPPORTED and not inner
        return known and all(name in self.weights for name in node.input if name)

    def _derive(self, node: Any) -> None:
        """What is computed of constants is one; it is made of the tensors that it was read from."""
        read = data_of(node)
        parts: tuple[str, ...] = ()
        if family_of(name_of(node.op_type, node.domain)) != "create":
            parts = tuple(dict.fromkeys(
                part for name in read for part in self._parts.get(name, ())
            ))  # fmt: skip
        if node.op_type == "DequantizeLinear":
            self._numbers.update(parts)
        for name in filter(None, node.output):
            weight = Weight(self._shape_of(name) or (), 4, "constant")
            self.weights[name] = weight
            if parts:
                self._base(weight, parts)
                self._parts[name] = parts
            else:
                self._store(name, weight)

    def _base(self, weight: Weight, parts: Iterable[str]) -> None:
        """Say what a constant is made of: it is read as it is stored, and counts once."""
        stored = [self._stored[part] for part in parts]
        if not stored:
            return
        largest = max(stored, key=lambda one: one.elements)
        weight.base, weight.itemsize = largest, largest.itemsize
        if len(stored) == 1:  # repeated rows are read again, not stored again
            weight.elements = min(math.prod(weight.shape), largest.elements)

    def _assign(self, node: Any) -> None:
        """Give the tensors that an operator reads beside activations their roles."""
        op = node.op_type
        settings = SETTINGS.get(op, frozenset())
        places = WEIGHTS.get(op, frozenset())
        of_scale = self._follow_scale(node)
        for place, name in enumerate(node.input):
            if name not in self.weights or place in settings or of_scale:
                continue
            for part in self._parts[name]:
                if op == "BatchNormalization" and place in _STATISTICS:
                    self._roles.setdefault(part, "buffer")
                elif place in places or (part in self._numbers and self._stored[part].elements > 1):
                    self._roles[part] = "param"

    def _follow_scale(self, node: Any) -> bool:
        """Whether the node multiplies the scale of an activation, which is itself a scale then."""
        if node.op_type == "DynamicQuantizeLinear":
            self._scales.update(node.output[1:])
            return True
        scale = node.op_type == "Mul" and any(
            name in self._scales and all(n in self.weights or n in self._scales for n in node.input)
            for name in node.input
        )
        if scale:
            self._scales.update(node.output)
        return scale

    def _finish(self) -> None:
        for name, role in self._roles.items():
            self._stored[name].role = role
        for weight in self.weights.values():
            if weight.base is not None:
                weight.role = weight.base.role
        whole = [weight for weight in self._stored.values() if weight.role != "constant"]
        self.params = sum(one.elements for one in whole if one.role == "param")
        self.statistics = sum(one.elements for one in whole if one.role == "buffer")
        self.weight_bytes = sum(one.elements * one.itemsize for one in whole)
