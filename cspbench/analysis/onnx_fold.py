"""Shape arithmetic of ONNX graphs, done beforehand.

Exporters leave small computations on shapes in the graph (Shape, Gather, Div, Mul, Slice bounds).
``onnx.shape_inference`` follows only some of them, and what depends on the others then has no
shape. Here every node of shape arithmetic whose inputs are small known numbers is evaluated with
``onnx.reference``, and shapes are inferred again, until nothing changes.

The file may be hostile. Only the operators of ``onnx_sizes`` are evaluated, the size of a result is
known before it is computed, and the work on one graph is bounded; what is left stays in the graph.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from cspbench.analysis.onnx_einsum import result_shape
from cspbench.analysis.onnx_operands import data_of
from cspbench.analysis.onnx_sizes import RESULT_SIZES

#: Larger tensors are data, not shape arithmetic.
MAX_ELEMENTS = 1024
#: Bound of all folding of a graph: elements that are read and written. A large network has 1e5.
MAX_WORK = 1 << 22
#: Rounds of inference, and nodes that all rounds together may look at.
MAX_ROUNDS = 64
MAX_VISITS = 200_000
#: What shapes are computed with: integers, floats (scales of Resize) and truth values.
_KINDS = "iufb"
#: Their result holds none of the numbers that they read.
_OF_SHAPES = frozenset({"Shape", "Size", "ConstantOfShape"})

#: Names of ONNX's own domain.
_OWN = ("", "ai.onnx")

#: Tensors of the file by the name of what was computed of them.
Origins = dict[str, tuple[str, ...]]


@dataclass
class _Folding:
    """Values known so far, by name, and how many elements may still be read and written.

    ``origins`` are those of the values that are no tensors of the file. ``opset`` is the version of
    ONNX's operators in which the file is written.
    """

    known: dict[str, np.ndarray] = field(default_factory=dict)
    work_left: int = MAX_WORK
    origins: Origins = field(default_factory=dict)
    opset: int = 1

    def origins_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Tensors of the file that these names hold, or are made of."""
        return tuple(dict.fromkeys(
            origin for name in names if name for origin in self.origins.get(name, (name,))
        ))  # fmt: skip


def infer(model: onnx.ModelProto, origins: Origins | None = None) -> onnx.ModelProto:
    """Return the model with every shape that can be inferred; folded nodes are gone.

    Args:
        model: the model; weights are initializers.
        origins: gets an entry for each initializer that folding adds.
    """
    opset = max((one.version for one in model.opset_import if one.domain in _OWN), default=1)
    known = _known(model.graph)
    folding = _Folding(known, origins={} if origins is None else origins, opset=opset)
    visits = 0
    for _ in range(MAX_ROUNDS):
        # Not with data_prop: it keeps an object for each element of every list of numbers.
        model = shape_inference.infer_shapes(model)
        visits += len(model.graph.node)
        changed = _own_shapes(model.graph)
        if visits > MAX_VISITS or not (_fold(model.graph, folding) or changed):
            break
    return model


def _own_shapes(graph: Any) -> bool:
    """Tell the shapes that the file's version of ONNX does not; True if any was not known."""
    shapes = _static_shapes(graph)
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    infos = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
    changed = False
    for node in graph.node:
        shape_of = _SHAPES.get(node.op_type)
        given = [shapes.get(name) for name in node.input]
        if shape_of is None or None in given or not node.output or node.output[0] in shapes:
            continue
        try:
            shape = shape_of(node, given)
        except (ValueError, KeyError, IndexError):  # a malformed node stays without a shape
            continue
        name, like = node.output[0], infos.get(node.input[0])
        info = infos[name] if name in infos else graph.value_info.add(name=name)
        kind = like.type.tensor_type.elem_type if like is not None else onnx.TensorProto.FLOAT
        info.CopyFrom(helper.make_tensor_value_info(name, kind, shape))
        changed = True
    return changed


def _first_shape(_node: Any, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return shapes[0]


def _einsum_shape(node: Any, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    [equation] = (one.s.decode() for one in node.attribute if one.name == "equation")
    return result_shape(equation, shapes)


#: Shapes of results by operator: ONNX Runtime writes newer operators into older files.
_SHAPES: dict[str, Callable[[Any, Any], tuple[int, ...]]] = {
    **dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        _first_shape,
    ),
    "Einsum": _einsum_shape,
}


def _known(graph: Any) -> dict[str, np.ndarray]:
    """Small tensors among the initializers: bounds, axes, target shapes, scales."""
    known: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        if not _is_outside(tensor) and math.prod(tensor.dims) <= MAX_ELEMENTS:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind in _KINDS:
                known[tensor.name] = array
    return known


def constants_as_weights(graph: Any) -> None:
    """Make an initializer of each Constant node that holds a tensor."""
    left = []
    for node in graph.node:
        if node.op_type == "Constant" and [one.name for one in node.attribute] == ["value"]:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            left.append(node)
    if len(left) < len(graph.node):
        del graph.node[:]
        graph.node.extend(left)


def _is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values lie in a file of their own, which an analysis does not read."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _fold(graph: Any, folding: _Folding) -> bool:
    """Evaluate what can be evaluated now; True if anything was."""
    shapes = _static_shapes(graph)
    left: list[Any] = []
    changed = False
    for node in graph.node:
        branch = _chosen_branch(node, folding)
        if branch is not None:
            changed = True
            left += _inlined(node, branch, graph, folding)
            continue
        results = _evaluate(node, folding, shapes)
        if results is None:
            left.append(node)
            continue
        changed = True
        of = () if node.op_type in _OF_SHAPES else folding.origins_of(data_of(node))
        for name, array in zip(node.output, results, strict=False):
            folding.known[name] = array
            folding.origins[name] = of
            graph.initializer.append(numpy_helper.from_array(array, name))
    if changed:
        del graph.node[:]
        graph.node.extend(left)
        # What earlier rounds said of the shape of a folded value is less than is known now.
        infos = [info for info in graph.value_info if info.name not in folding.known]
        del graph.value_info[:]
        graph.value_info.extend(infos)
    return changed


def _chosen_branch(node: Any, folding: _Folding) -> Any:
    """The branch that an If node always takes, because its condition is known; else None."""
    if node.op_type != "If" or node.domain not in _OWN:
        return None
    condition = folding.known.get(node.input[0])
    if condition is None or condition.size != 1:
        return None
    wanted = "then_branch" if condition.item() else "else_branch"
    branches = [attribute.g for attribute in node.attribute if attribute.name == wanted]
    fits = len(branches) == 1 and len(branches[0].output) == len(node.output)
    return branches[0] if fits else None


def _inlined(node: Any, branch: Any, graph: Any, folding: _Folding) -> list[Any]:
    """The nodes of a branch in place of its If node; its weights join those of the graph."""
    constants_as_weights(branch)
    folding.known |= _known(branch)
    graph.initializer.extend(branch.initializer)
    results = zip(branch.output, node.output, strict=True)
    return [
        *branch.node,
        *(helper.make_node("Identity", [made.name], [name]) for made, name in results if name),
    ]


def _static_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                shapes[info.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _evaluate(
    node: Any, folding: _Folding, shapes: Mapping[str, tuple[int, ...]]
) -> list[np.ndarray] | None:
    """Results of a node, or None if they are not known or not small."""
    # The evaluator would look for a data file in the working directory.
    outside = any(_is_outside(attribute.t) for attribute in node.attribute)
    if outside or node.domain not in _OWN:
        return None
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0]) if node.input else None
        return None if shape is None else [_part_of_shape(node, shape)]
    size_of = RESULT_SIZES.get(node.op_type)
    given = {name: folding.known.get(name) for name in node.input if name}
    inputs = {name: array for name, array in given.items() if array is not None}
    if size_of is None or len(inputs) < len(given):
        return None
    try:
        size = size_of(node, [inputs[name] for name in node.input if name])
        work = size + sum(array.size for array in inputs.values()) + 1
        if size > MAX_ELEMENTS or work > folding.work_left:
            return None
        folding.work_left -= work
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = _evaluator(node, folding.opset).run(None, inputs)
    except Exception:  # a malformed node, or one that the evaluator does not know: it stays
        return None
    arrays = [np.asarray(array) for array in outputs]
    small = all(array.size <= MAX_ELEMENTS and array.dtype.kind in _KINDS for array in arrays)
    return arrays if small else None


def _evaluator(node: Any, opset: int) -> ReferenceEvaluator:
    """Evaluates a node as the file's version of ONNX defines it: axes were attributes once."""
    graph = onnx.GraphProto(name="node", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output)
    return ReferenceEvaluator(graph, opsets={"": opset})


def _part_of_shape(node: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The result of a Shape node: all sides, or those from ``start`` to ``end``."""
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[bounds.get("start", 0) : bounds.get("end")], np.int64)
