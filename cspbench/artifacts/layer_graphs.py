"""Single layers of an ONNX network, each as a graph of its own: what a replay runs.

A layer is one node that computes or moves data, with the activations behind it that nothing else
feeds: what an engine may fuse in the network it may fuse here. Weights are the network's own. Of
several inputs the first stays one; the others become constants of their shape, because a session
takes one input.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

#: Operators that a layer of its own begins with.
ANCHORS = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "Add", "Mul", "Sub", "Div", "Concat", "Resize", "Upsample",
    "BatchNormalization", "InstanceNormalization", "LRN", "Softmax", "ReduceMean", "ReduceMax",
})  # fmt: skip
#: Operators that follow a layer element by element.
FOLLOWERS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Selu",
    "Tanh", "Softplus", "Softsign", "Erf", "Mish", "Gelu", "Mul",
})  # fmt: skip
#: Constants of so few elements are settings (bounds, sizes); larger ones are weights.
SETTING_ELEMENTS = 64


@dataclass(frozen=True)
class LayerGraph:
    """A layer: the names of its nodes in the network, and a graph that is only this layer.

    ``key`` is a digest of operators, attributes, shapes and settings: layers with the same key take
    the same time. ``shape`` is that of the input. ``small_weights`` says that its weights take less
    memory than what it reads and writes.
    """

    key: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    model: onnx.ModelProto = field(compare=False, repr=False)
    small_weights: bool = False


def layer_graphs(file: Path) -> list[LayerGraph]:
    """The layers of an ONNX file of static shapes, in its order.

    A layer whose shapes are not known, or whose input holds no float32, is left out.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(file)))
    network = _Network(model)
    taken: set[int] = set()
    found = []
    for number, node in enumerate(model.graph.node):
        if node.op_type not in ANCHORS or number in taken:
            continue
        members = network.layer_of(number)
        graph = network.extract(members)
        if graph is not None:
            taken |= set(members)
            found.append(graph)
    return found


class _Network:
    """A network's nodes, constants, shapes and who consumes what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        graph = model.graph
        self._nodes = list(graph.node)
        self._constants: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self._maker: dict[str, int] = {}
        self._consumers: dict[str, list[int]] = defaultdict(list)
        for number, node in enumerate(self._nodes):
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                tensor = type(node.attribute[0].t)()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
                self._constants[tensor.name] = tensor
                continue
            for name in node.output:
                self._maker[name] = number
            for name in set(node.input):
                self._consumers[name].append(number)
        self._outputs = {value.name for value in graph.output}
        values = [*graph.input, *graph.value_info, *graph.output]
        self._types = {value.name: value.type.tensor_type for value in values}

    def layer_of(self, anchor: int) -> list[int]:
        """The node and the activations behind it that nothing else feeds, in the file's order."""
        members = [anchor]
        inside = set(self._nodes[anchor].output)
        grown = True
        while grown:
            grown = False
            for number in self._behind(inside):
                node = self._nodes[number]
                fed = [name for name in node.input if name and name not in self._constants]
                if number not in members and node.op_type in FOLLOWERS and set(fed) <= inside:
                    members.append(number)
                    inside |= set(node.output)
                    grown = True
        return sorted(members)

    def _behind(self, names: set[str]) -> Iterator[int]:
        for name in sorted(names):
            yield from self._consumers[name]

    def extract(self, members: Sequence[int]) -> LayerGraph | None:
        """A model of these nodes alone; None if that cannot be."""
        import onnx
        from onnx import helper

        nodes = [self._nodes[number] for number in members]
        made = [name for node in nodes for name in node.output if name]
        read = [name for node in nodes for name in node.input if name]
        fed = [name for name in dict.fromkeys(read) if name not in made]
        dynamic = [name for name in fed if name not in self._constants]
        leaving = [name for name in made if self._leaves(name, members)]
        shapes = {name: self._shape(name) for name in (*dynamic, *leaving)}
        if not dynamic or not leaving or None in shapes.values():
            return None
        first, *others = dynamic
        weights = [self._constants[name] for name in fed if name in self._constants]
        moved = sum(math.prod(shape or ()) for shape in shapes.values())
        small = sum(map(_elements, weights)) < moved
        constants = [*weights, *(_filled(name, shapes[name] or ()) for name in others)]
        floats = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, "layer",
            [helper.make_tensor_value_info(first, floats, shapes[first])],
            [helper.make_tensor_value_info(name, floats, shapes[name]) for name in leaving],
            constants,
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        names = tuple(node.name for node in nodes)
        shape = shapes[first] or ()
        return LayerGraph(self._key(nodes, shapes, constants), names, shape, model, small)

    def _leaves(self, name: str, members: Sequence[int]) -> bool:
        outside = set(self._consumers[name]) - set(members)
        return bool(outside) or name in self._outputs

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """Static shape of a float32 tensor."""
        import onnx

        kind = self._types.get(name)
        if kind is None or kind.elem_type != onnx.TensorProto.FLOAT or not kind.HasField("shape"):
            return None
        shape = tuple(int(dim.dim_value) for dim in kind.shape.dim)
        return shape if shape and all(size > 0 for size in shape) else None

    def _key(
        self,
        nodes: Sequence[onnx.NodeProto],
        shapes: Mapping[str, tuple[int, ...] | None],
        constants: Sequence[onnx.TensorProto],
    ) -> str:
        """Digest of everything that the time depends on; names are replaced by numbers."""
        names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output))
        numbers = {name: number for number, name in enumerate(names)}
        text: list[Any] = [sorted((item.domain, item.version) for item in self._model.opset_import)]
        for node in nodes:
            attributes = sorted(item.SerializeToString(deterministic=True).hex()
                                for item in node.attribute)  # fmt: skip
            wires = [[numbers[name] for name in side] for side in (node.input, node.output)]
            text.append((node.op_type, wires, attributes))
        text.append(sorted((numbers[name], shape) for name, shape in shapes.items()))
        for tensor in constants:
            text.append((numbers[tensor.name], tensor.data_type, tuple(tensor.dims)))
            if _elements(tensor) <= SETTING_ELEMENTS:
                text.append(_values(tensor))
        return hashlib.sha256(repr(text).encode()).hexdigest()[:32]


def _elements(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _values(tensor: onnx.TensorProto) -> str:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor).tobytes().hex()


def _filled(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    """A constant in place of an input."""
    from onnx import numpy_helper

    from cspbench.artifacts.tensors import input_tensor

    return numpy_helper.from_array(input_tensor(shape, 0, 0), name)
