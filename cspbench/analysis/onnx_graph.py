"""Analysis of ONNX files: shapes by ``onnx.shape_inference``, costs by our own rules.

Weights are not read: an external-data file may be missing, and a graph of any size costs little
memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.inliner
from onnx import helper

from cspbench.analysis.layer import Shape
from cspbench.analysis.metric import Facts
from cspbench.analysis.onnx_arity import check_arity
from cspbench.analysis.onnx_fold import MAX_ELEMENTS, infer
from cspbench.analysis.onnx_ops import name_of
from cspbench.analysis.ops import OPS, UNSUPPORTED, kind_of
from cspbench.analysis.record import Analysis, analysis_of
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight
from cspbench.analysis.stages import stage_of_path
from cspbench.core.files import open_input
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.sources.onnx_nodes import check_nodes

_FLOATS = frozenset(
    getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
)
#: No tensor of a network has more elements (four terabytes).
MAX_TENSOR = 1 << 40
#: Fields that hold the values of a tensor.
_VALUES = (
    "raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data",
    "string_data",
)  # fmt: skip
_WINDOWS = frozenset({"max_pool2d", "avg_pool2d"})


def analyze_onnx(path: str, input_shapes: Sequence[Sequence[int]] = ()) -> Analysis:
    """Analyse an ONNX file.

    Args:
        path: the file.
        input_shapes: shapes of the inputs in order, where the file leaves axes open.

    Raises:
        InputError: not a readable ONNX file, or one whose input stays open.
    """
    model = _load(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs:
        raise InputError(f"{path}: has no input")
    for value, shape in zip(inputs, input_shapes, strict=False):
        _fix(value, shape, path)
    try:
        model = infer(model)
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise InputError(f"{path}: shapes cannot be inferred ({first_line(error)})") from error
    walk = _Walk(model.graph, path, weights)
    walk.run()
    return walk.analysis(path)


def _load(path: str) -> onnx.ModelProto:
    try:
        with open_input(path) as file:
            model = onnx.load(file, load_external_data=False)
        check_nodes(model, path)
        _without_weights(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        check_arity(model, path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: is not a readable ONNX file ({first_line(error)})") from error
    if not model.graph.node:
        raise InputError(f"{path}: holds no graph")
    return model


def _without_weights(model: onnx.ModelProto) -> None:
    """Drop the values of large tensors: each step of the analysis copies the whole model."""
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > MAX_ELEMENTS:
            for values in _VALUES:
                tensor.ClearField(values)


def _fix(value: Any, shape: Sequence[int], path: str) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise InputError(f"{path}: its input has {len(dims)} dimensions, not {len(shape)}")
    for dim, side in zip(dims, shape, strict=True):
        if dim.HasField("dim_value") and 0 < dim.dim_value != side:
            fixed = tuple(d.dim_value or "open" for d in dims)
            raise InputError(f"{path}: its input is {fixed}, which {tuple(shape)} is not")
        dim.dim_value = side


def _itemsize(elem_type: int) -> int:
    """Bytes of an element of an ONNX type; 4-bit types count as one byte."""
    try:
        return max(int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize), 1)
    except (KeyError, TypeError):
        return 1


class _Walk:
    """Follows the nodes in their order; frees values that no later node reads."""

    def __init__(self, graph: Any, path: str, own_weights: set[str]) -> None:
        self.graph = graph
        self.path = path
        self.own_weights = own_weights  # not what folding added
        self.recorder = Recorder()
        self.weights: dict[str, Weight] = {}
        self.values: dict[str, Value] = {}
        self.types = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
        self.statistics = 0
        self.input_shapes: list[Shape] = []
        self._last_use: dict[str, int] = {}
        self._holders: dict[Storage, int] = {}

    def run(self) -> None:
        """Record every node."""
        kept = {info.name for info in (*self.graph.input, *self.graph.output)}
        for index, node in enumerate(self.graph.node):
            for name in node.input:
                self._last_use[name] = index
        self._weights()
        for info in self.graph.input:
            if info.name not in self.weights:
                shape = self._shape(info.name)
                if shape is None:
                    raise InputError(
                        f"{self.path}: the shape of its input {info.name!r} is open; "
                        "give it with @height or @heightxwidth"
                    )
                self.input_shapes.append(shape)
                self._new(info.name, shape, self._bytes_of(info.name))
        for index, node in enumerate(self.graph.node):
            self._node(node)
            for name in (*node.input, *node.output):
                if name not in kept and self._last_use.get(name, index) <= index:
                    self._drop(name)

    def _weights(self) -> None:
        statistics = {
            name
            for node in self.graph.node
            if node.op_type == "BatchNormalization"
            for name in node.input[3:5]
        }
        for tensor in self.graph.initializer:
            own = tensor.name in self.own_weights and tensor.data_type in _FLOATS
            role = "param" if own else "constant"
            self._check_size(tensor.name, tensor.dims)
            weight = Weight(tuple(tensor.dims), _itemsize(tensor.data_type), role)
            if tensor.name in statistics:
                weight.role = "buffer"
                self.statistics += weight.elements
            self.weights[tensor.name] = weight

    def _check_size(self, name: str, shape: Sequence[int]) -> None:
        if min(shape, default=0) < 0 or math.prod(shape) > MAX_TENSOR:
            sides = " x ".join(map(str, shape[:8]))
            raise InputError(f"{self.path}: tensor {name[:80]!r} has the size {sides}")

    def _shape(self, name: str) -> Shape | None:
        info = self.types.get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        dims = info.type.tensor_type.shape.dim
        if any(not dim.HasField("dim_value") for dim in dims):
            return None
        return tuple(int(dim.dim_value) for dim in dims)

    def _bytes_of(self, name: str) -> int:
        info = self.types.get(name)
        return _itemsize(info.type.tensor_type.elem_type) if info is not None else 4

    def _new(self, name: str, shape: Shape, itemsize: int, of: Value | None = None) -> Value:
        if of is not None:
            storage = of.storage
        else:
            self._check_size(name, shape)
            storage = Storage(math.prod(shape) * itemsize)
            self.recorder.allocate(storage.nbytes)
        self._holders[storage] = self._holders.get(storage, 0) + 1
        value = Value(self.recorder.new_id(), shape, itemsize, storage)
        self.values[name] = value
        return value

    def _drop(self, name: str) -> None:
        value = self.values.pop(name, None)
        if value is None:
            return
        self._holders[value.storage] -= 1
        if not self._holders[value.storage]:
            del self._holders[value.storage]
            self.recorder.live_bytes -= value.storage.nbytes

    def _node(self, node: Any) -> None:
        name = name_of(node.op_type, node.domain)
        kind = kind_of(name) if name in OPS else UNSUPPORTED
        if name in ("conv", "conv_transpose"):
            kind = "conv"
        values = [self.values[item] for item in node.input if item in self.values]
        weights = [self.weights[item] for item in node.input if item in self.weights]
        self.recorder.path = _module_path(node.name)
        self.recorder.stage = stage_of_path(self.recorder.path)
        shapes = [self._shape(item) for item in node.output if item]
        if not values and kind != UNSUPPORTED:
            self._constant(node, weights, kind)
            return
        if kind == "create":  # a question about shapes
            self._constant(node, [], kind)
            return
        if any(shape is None for shape in shapes):
            name, kind = (node.op_type if kind != UNSUPPORTED else name), UNSUPPORTED
        source = values[0] if kind == "view" and values else None
        outputs = [
            self._new(item, self._shape(item) or (), self._bytes_of(item), source)
            for item in node.output
            if item
        ]
        self._record(node, name, kind, values, weights, outputs)

    def _constant(self, node: Any, weights: list[Weight], kind: str) -> None:
        """What is computed of weights alone is a weight itself; of nothing, a constant."""
        derived = any(weight.role in ("param", "derived") for weight in weights)
        for item in node.output:
            if not item:
                continue
            shape = self._shape(item) or ()
            if kind == "view" and len(weights) >= 1:
                self.weights[item] = weights[0]
                continue
            role = "derived" if derived else "constant"
            self.weights[item] = Weight(shape, self._bytes_of(item), role)

    def _record(
        self,
        node: Any,
        name: str,
        kind: str,
        values: list[Value],
        weights: list[Weight],
        outputs: list[Value],
    ) -> None:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if kind == "conv":
            self._conv(node, name, attributes, values, outputs)
        elif kind in ("linear", "matmul"):
            self._product(node, values, weights, outputs)
        elif name in _WINDOWS:
            sides = len(outputs[0].shape) - 2
            kernel = tuple(attributes.get("kernel_shape", ()))
            self.recorder.record(
                name.replace("2d", f"{sides}d"),
                values,
                outputs,
                kernel=kernel,
                stride=tuple(attributes.get("strides", (1,) * sides)),
                dilation=tuple(attributes.get("dilations", (1,) * sides)),
            )
        elif name == "global_avg_pool" or (name == "mean" and _is_global(values, outputs)):
            sides_ = values[0].shape[2:]
            self.recorder.record("global_avg_pool", values, outputs, kernel=sides_, stride=sides_)
        elif name == "adaptive_max_pool2d":
            sides_ = values[0].shape[2:]
            self.recorder.record(name, values, outputs, kernel=sides_, stride=sides_)
        else:
            read = [weight for weight in weights if weight.role != "constant"]
            self.recorder.record(
                name, values, outputs, None, read, kind=kind, copied=kind == "copy"
            )

    def _conv(
        self,
        node: Any,
        name: str,
        attributes: dict[str, Any],
        values: list[Value],
        outputs: list[Value],
    ) -> None:
        weight = self.weights.get(node.input[1])
        shape = weight.shape if weight else self.values[node.input[1]].shape
        dims = len(shape) - 2
        bias = self.weights.get(node.input[2]) if len(node.input) > 2 else None
        self.recorder.record(
            f"{name}{dims}d",
            values,
            outputs,
            weight,
            bias=bias,
            weight_shape=shape,
            kernel=shape[2:],
            stride=tuple(attributes.get("strides", (1,) * dims)),
            dilation=tuple(attributes.get("dilations", (1,) * dims)),
            groups=int(attributes.get("group", 1)),
            transposed=name == "conv_transpose",
        )

    def _product(
        self, node: Any, values: list[Value], weights: list[Weight], outputs: list[Value]
    ) -> None:
        matrix = self.weights.get(node.input[1]) or self.weights.get(node.input[0])
        if matrix is None:
            self.recorder.record("matmul", values, outputs, others=weights)
            return
        bias = self.weights.get(node.input[2]) if len(node.input) > 2 else None
        self.recorder.record("linear", values, outputs, matrix, bias=bias)

    def analysis(self, path: str) -> Analysis:
        """The record of the whole graph."""
        params = [w for w in self.weights.values() if w.role == "param"]
        unique = {id(weight): weight for weight in params}.values()
        buffers = [w for w in self.weights.values() if w.role == "buffer"]
        recorder = self.recorder
        facts = Facts(
            params=sum(weight.elements for weight in unique),
            running_statistics=self.statistics,
            peak_live_bytes=recorder.peak_live_bytes,
            peak_layer=recorder.peak_index,
            weight_bytes=sum(w.elements * w.itemsize for w in (*unique, *buffers)),
        )
        return analysis_of(f"onnx:{path}", "onnx", tuple(self.input_shapes), recorder.layers, facts)


def _is_global(values: list[Value], outputs: list[Value]) -> bool:
    """True for a mean over both spatial axes of an image tensor."""
    shape = values[0].shape
    return len(shape) == 4 and outputs[0].shape in (shape[:2], (*shape[:2], 1, 1))


def _module_path(name: str) -> str:
    """``/body/body.0/conv/Conv`` -> ``body.0.conv``: exporters write module paths into names."""
    parts: list[str] = []
    for part in [part for part in name.split("/") if part][:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
