"""Reads an ONNX file for an analysis: without its weights, its nodes in the order of execution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.inliner
from onnx import defs

from cspbench.analysis.onnx_arity import check_arity
from cspbench.analysis.onnx_fold import MAX_ELEMENTS, constants_as_weights
from cspbench.analysis.onnx_lower import lower
from cspbench.core.files import open_input
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.sources.onnx_nodes import check_nodes, sort_nodes

#: Fields that hold the values of a tensor.
_VALUES = (
    "raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data",
    "string_data",
)  # fmt: skip


def load_model(path: str) -> onnx.ModelProto:
    """Read the file; weights in Constant nodes become initializers, as the others are.

    Raises:
        InputError: not a readable ONNX file.
    """
    try:
        with open_input(path) as file:
            model = onnx.load(file, load_external_data=False)
        check_nodes(model, path)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        lower(model.graph)
        constants_as_weights(model.graph)
        _without_weights_as_inputs(model)
        _without_weights(model.graph)
        check_arity(model, path)
        sort_nodes(model.graph, path)
        _check_names(model.graph, path)
    except InputError:
        raise
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise InputError(f"{path}: is not a readable ONNX file ({first_line(error)})") from error
    if not model.graph.node:
        raise InputError(f"{path}: holds no graph")
    return model


def _check_names(graph: Any, path: str) -> None:
    """Check that something makes whatever a node reads."""
    made = {one.name for one in (*graph.input, *graph.initializer)}
    made |= {one.values.name for one in graph.sparse_initializer}
    made.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        for name in node.input:
            if name and name not in made:
                raise InputError(
                    f"{path}: node {node.name[:80]!r} ({node.op_type}) reads {name[:80]!r}, which "
                    "nothing makes"
                )


def _without_weights_as_inputs(model: onnx.ModelProto) -> None:
    """Write weights as newer files do: before version 4 they were inputs too, and only such."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _without_weights(graph: Any) -> None:
    """Drop the values of large tensors: each step of the analysis copies the whole model."""
    for tensor in graph.initializer:
        if math.prod(tensor.dims) > MAX_ELEMENTS:
            for values in _VALUES:
                tensor.ClearField(values)


def fix_inputs(model: onnx.ModelProto, shapes: Sequence[Sequence[int]], path: str) -> None:
    """Give the inputs their shapes, and forget what the file says of the shapes that follow.

    Raises:
        InputError: an input cannot have its shape.
    """
    graph = model.graph
    was_open = False
    for value, shape in zip(graph.input, shapes, strict=False):
        was_open |= _fix(value, shape, path)
    # Tools leave the shapes of another size behind. Those of operators that onnx does not know
    # are all that there is, and right where nothing was open.
    versions = {one.domain: one.version for one in model.opset_import}
    unknown = set() if was_open else {
        name for node in graph.node if not _is_known(node, versions) for name in node.output
    }  # fmt: skip
    kept = [info for info in graph.value_info if info.name in unknown]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for info in graph.output:
        if info.name not in unknown and info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")


def _fix(value: Any, shape: Sequence[int], path: str) -> bool:
    """Give an input its shape; True if it was open."""
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise InputError(f"{path}: its input has {len(dims)} dimensions, not {len(shape)}")
    was_open = False
    for dim, side in zip(dims, shape, strict=True):
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            was_open = True
        elif dim.dim_value != side:
            fixed = tuple(d.dim_value or "open" for d in dims)
            raise InputError(f"{path}: its input is {fixed}, which {tuple(shape)} is not")
        dim.dim_value = side
    return was_open


def _is_known(node: Any, versions: dict[str, int]) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = versions.get(domain, versions.get("ai.onnx", 1) if domain == "" else 1)
    try:
        return bool(defs.has(node.op_type, version, domain))
    except TypeError:  # a version beyond 32 bits
        return False
