"""Shape arithmetic of ONNX graphs, done beforehand.

Exporters leave small computations on shapes in the graph (Shape, Gather, Div, Mul, Slice bounds).
``onnx.shape_inference`` follows only some of them, and what depends on the others then has no
shape. Here every node whose inputs are small known numbers is evaluated with
``onnx.reference``, and shapes are inferred again, until nothing changes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

#: Larger tensors are data, not shape arithmetic.
MAX_ELEMENTS = 1024
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"})
_ROUNDS = 64


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every shape that can be inferred; folded nodes are gone."""
    known = _given(model.graph)
    for _ in range(_ROUNDS):
        model = shape_inference.infer_shapes(model, data_prop=True)
        if not _fold(model.graph, known):
            break
    return model


def _given(graph: Any) -> dict[str, np.ndarray]:
    """Small integers among the initializers: bounds, axes, target shapes."""
    known: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        size = int(np.prod(tensor.dims)) if tensor.dims else 1
        if not _is_outside(tensor) and size <= MAX_ELEMENTS:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind in "iub":
                known[tensor.name] = array
    return known


def _is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values lie in a file of their own, which an analysis does not read."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _fold(graph: Any, known: dict[str, np.ndarray]) -> bool:
    """Evaluate what can be evaluated now; True if anything was."""
    shapes = _static_shapes(graph)
    left = []
    for node in graph.node:
        results = _evaluate(node, known, shapes)
        if results is None:
            left.append(node)
            continue
        for name, array in zip(node.output, results, strict=False):
            known[name] = array
            graph.initializer.append(numpy_helper.from_array(array, name))
    changed = len(left) < len(graph.node)
    if changed:
        del graph.node[:]
        graph.node.extend(left)
    return changed


def _static_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                shapes[info.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _evaluate(
    node: Any, known: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> list[np.ndarray] | None:
    """Results of a node, or None if they are not known or not small."""
    inputs = [name for name in node.input if name]
    if node.op_type == "Shape" and not node.attribute:
        shape = shapes.get(inputs[0])
        return None if shape is None else [np.array(shape, np.int64)]
    subgraph = any(attribute.HasField("g") for attribute in node.attribute)
    # The evaluator would look for a data file in the working directory.
    outside = any(_is_outside(attribute.t) for attribute in node.attribute)
    foreign = node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM
    unknown = not inputs and node.op_type != "Constant"
    if subgraph or outside or foreign or unknown or any(name not in known for name in inputs):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = ReferenceEvaluator(node).run(None, {name: known[name] for name in inputs})
    except Exception:  # the evaluator does not know every operator: then it stays in the graph
        return None
    arrays = [np.asarray(array) for array in outputs]
    return arrays if all(array.size <= MAX_ELEMENTS for array in arrays) else None
