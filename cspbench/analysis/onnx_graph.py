"""Analysis of ONNX files: shapes by ``onnx.shape_inference``, costs by our own rules.

Weights are not read: an external-data file may be missing, and a graph of any size costs little
memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper, shape_inference

from cspbench.analysis import shapes
from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.metric import Facts
from cspbench.analysis.onnx_checks import label, problem
from cspbench.analysis.onnx_einsum import record_einsum
from cspbench.analysis.onnx_fold import Origins, infer
from cspbench.analysis.onnx_load import fix_inputs, load_model
from cspbench.analysis.onnx_operands import PRODUCTS, QUANTITIES
from cspbench.analysis.onnx_ops import NOTES, RECURRENT, family_of, multiplies, name_of
from cspbench.analysis.onnx_recurrent import record_recurrent
from cspbench.analysis.onnx_weights import Constants
from cspbench.analysis.ops import MAC_KINDS, UNSUPPORTED
from cspbench.analysis.record import Analysis, analysis_of
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight
from cspbench.analysis.stages import stage_of_path
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.sources.onnx_nodes import with_inner

#: No tensor of a network has more elements (four terabytes).
MAX_TENSOR = 1 << 40
_WINDOWS = frozenset({"max_pool2d", "avg_pool2d"})


def analyze_onnx(path: str, input_shapes: Sequence[Sequence[int]] = ()) -> Analysis:
    """Analyse an ONNX file.

    Args:
        path: the file.
        input_shapes: shapes of the inputs in order, where the file leaves axes open.

    Raises:
        InputError: not a readable ONNX file, one whose input stays open, one that cannot run at
            these shapes, or one with a product whose cost is not known.
    """
    model = load_model(path)
    fix_inputs(model, input_shapes, path)
    origins: Origins = {}
    try:
        model = infer(model, origins)
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise InputError(f"{path}: shapes cannot be inferred ({first_line(error)})") from error
    walk = _Walk(model.graph, path, origins)
    _check_runs(model, path, walk.input_shapes)
    walk.run()
    return walk.analysis(path)


def _check_runs(model: onnx.ModelProto, path: str, shapes: Sequence[Shape]) -> None:
    """Check that every operator takes what it is given.

    Raises:
        InputError: one refuses it, so that the network cannot run.
    """
    try:
        shape_inference.infer_shapes(model, strict_mode=True)
    except Exception as error:  # its class has moved between versions of onnx
        raise _cannot_run(path, shapes, first_line(error)) from error


def _cannot_run(path: str, shapes: Sequence[Shape], why: str) -> InputError:
    given = " and ".join("x".join(map(str, shape)) for shape in shapes)
    return InputError(f"{path}: cannot run on {given}: {why}")


def _itemsize(elem_type: int) -> int:
    """Bytes of an element of an ONNX type; 4-bit types count as one byte."""
    try:
        return max(int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize), 1)
    except (KeyError, TypeError):
        return 1


class _Walk:
    """Follows the nodes in their order; frees values that no later node reads."""

    def __init__(self, graph: Any, path: str, origins: Origins) -> None:
        self.graph = graph
        self.path = path
        self.recorder = Recorder()
        self.values: dict[str, Value] = {}
        self.types = {info.name: info for info in (*graph.input, *graph.value_info, *graph.output)}
        for tensor in graph.initializer:
            self._check_size(tensor.name, tensor.dims)
        self.constants = Constants(graph, origins, self._shape, _itemsize)
        self.weights = self.constants.weights
        self.input_shapes: list[Shape] = []
        self._last_use: dict[str, int] = {}
        self._kept = {info.name for info in (*graph.input, *graph.output)}
        self._holders: dict[Storage, int] = {}
        self._calls: Counter[str] = Counter()
        #: The first node whose results have no known shape.
        self._lost = ""
        self._inputs()

    def _inputs(self) -> None:
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
        if not self.values:
            raise InputError(f"{self.path}: has no input")

    def run(self) -> None:
        """Record every node.

        Raises:
            InputError: the network cannot run, or the cost of a product is not known.
        """
        for index, node in enumerate(self.graph.node):
            for name in node.input:
                self._last_use[name] = index
        for index, node in enumerate(self.graph.node):
            if index in self.constants.computed:
                continue
            self._node(node)
            for name in (*node.input, *node.output):
                if name not in self._kept and self._last_use.get(name, index) <= index:
                    self._drop(name)

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
        kind = family_of(name)
        if kind == UNSUPPORTED and multiplies(node.op_type):
            raise self._unknown(node, NOTES.get(node.domain, ""))
        quantities = QUANTITIES.get(node.op_type, frozenset())
        read = [one for place, one in enumerate(node.input) if one and place not in quantities]
        values = [self.values[item] for item in read if item in self.values]
        weights = [self.weights[item] for item in read if item in self.weights]
        self.recorder.path = _module_path(node.name)
        self.recorder.stage = stage_of_path(self.recorder.path)
        self._check_inner(node)
        made = [
            item
            for place, item in enumerate(node.output)
            if item and (place == 0 or item in self._last_use or item in self._kept)
        ]
        if any(self._shape(item) is None for item in made):
            self._lose(node, kind)
            name, kind = (node.op_type if kind != UNSUPPORTED else name), UNSUPPORTED
        source = values[0] if kind == "view" and values else None
        outputs = [
            self._new(item, self._shape(item) or (), self._bytes_of(item), source) for item in made
        ]
        if not outputs:
            return
        first = len(self.recorder.layers)
        self._record(node, name, kind, values, weights, outputs)
        for layer in self.recorder.layers[first:]:
            self._calls[layer.op] += 1
            layer.name = layer.name or label(layer, node.name, self._calls[layer.op])

    def _check_inner(self, node: Any) -> None:
        """Check that no graph inside of a node multiplies and accumulates: an If, a Loop.

        Raises:
            InputError: one does.
        """
        inner = [one for one in with_inner([node]) if one is not node]
        products = [
            one.op_type for one in inner if family_of(name_of(one.op_type, one.domain)) in MAC_KINDS
        ]
        if products:
            names = ", ".join(sorted(set(products)))
            why = f": what it runs of its {len(products)} products ({names}) depends on values"
            raise self._unknown(node, why)

    def _lose(self, node: Any, kind: str) -> None:
        """Note where shapes are lost.

        Raises:
            InputError: at a node that multiplies and accumulates.
        """
        if kind in MAC_KINDS:
            why = f"; they are lost at {self._lost}" if self._lost else ""
            because = ", because its shapes depend on values or on an operator that is not known"
            raise self._unknown(node, because + why)
        self._lost = self._lost or _told(node)

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
        read = [weight for weight in weights if weight.role != "constant"]
        if kind == UNSUPPORTED:
            self.recorder.record(name, values, outputs, None, read, kind=kind)
        elif name in RECURRENT:
            self._recurrent(node, name, values[0], outputs)
        elif name == "einsum":
            self._einsum(node, attributes, values, weights, outputs)
        elif kind == "conv":
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
            if node.op_type == "Gather" and read:  # a look-up reads the rows that it returns
                read = [one.seen_as(outputs[0].shape, (1,) * len(outputs[0].shape), one.itemsize)
                        for one in read]  # fmt: skip
            window: Shape = ()
            if name == "interpolate" and isinstance(mode := attributes.get("mode"), bytes):
                size = outputs[0].shape[2:]
                window = shapes.interpolated(mode.decode(errors="replace"), size, size)
            self.recorder.record(
                name, values, outputs, None, read, kind=kind, kernel=window, copied=kind == "copy"
            )
        self._check_layer(node, self.recorder.layers[-1])

    def _check_layer(self, node: Any, layer: Layer) -> None:
        why = problem(node.op_type, layer)
        if why:
            raise _cannot_run(self.path, self.input_shapes, f"{_told(node)} {why}")

    def _conv(
        self,
        node: Any,
        name: str,
        attributes: dict[str, Any],
        values: list[Value],
        outputs: list[Value],
    ) -> None:
        operands = PRODUCTS[node.op_type]
        filters = node.input[operands.factors[1]]
        weight = self.weights.get(filters)
        shape = weight.shape if weight else self.values[filters].shape
        dims = len(shape) - 2
        self.recorder.record(
            f"{name}{dims}d",
            values,
            outputs,
            weight,
            bias=self._bias(node),
            weight_shape=shape,
            kernel=shape[2:],
            stride=tuple(attributes.get("strides", (1,) * dims)),
            dilation=tuple(attributes.get("dilations", (1,) * dims)),
            groups=int(attributes.get("group", 1)),
            transposed=name == "conv_transpose",
            kind="conv",
        )

    def _recurrent(self, node: Any, name: str, x: Value, outputs: list[Value]) -> None:
        names = [*node.input[1:4], ""][:3]
        of_input, of_state, bias = (self.weights.get(one) for one in names)
        if of_input is None or of_state is None:
            raise self._unknown(node, ": its weights are no constants of the file")
        record_recurrent(self.recorder, name, x, of_input, of_state, bias, outputs)

    def _bias(self, node: Any) -> Weight | None:
        place = PRODUCTS[node.op_type].bias
        return self.weights.get(node.input[place]) if 0 <= place < len(node.input) else None

    def _product(
        self, node: Any, values: list[Value], weights: list[Weight], outputs: list[Value]
    ) -> None:
        operands = PRODUCTS.get(node.op_type)
        names = [node.input[place] for place in reversed(operands.factors)] if operands else []
        matrix = next((self.weights[name] for name in names if name in self.weights), None)
        if matrix is None:
            self.recorder.record("matmul", values, outputs, others=weights)
            return
        self.recorder.record("linear", values, outputs, matrix, bias=self._bias(node))

    def _einsum(
        self,
        node: Any,
        attributes: dict[str, Any],
        values: list[Value],
        weights: list[Weight],
        outputs: list[Value],
    ) -> None:
        shapes = [(self.weights.get(one) or self.values[one]).shape for one in node.input]
        try:
            record_einsum(
                self.recorder, attributes["equation"].decode(), shapes, values, weights, outputs
            )
        except ValueError as error:
            raise self._unknown(node, f": {error}") from error

    def _unknown(self, node: Any, why: str) -> InputError:
        return InputError(f"{self.path}: the cost of {_told(node)} is not known{why}")

    def analysis(self, path: str) -> Analysis:
        """The record of the whole graph."""
        recorder, constants = self.recorder, self.constants
        facts = Facts(
            params=constants.params,
            running_statistics=constants.statistics,
            peak_live_bytes=recorder.peak_live_bytes,
            peak_layer=recorder.peak_index,
            weight_bytes=constants.weight_bytes,
        )
        return analysis_of(f"onnx:{path}", "onnx", tuple(self.input_shapes), recorder.layers, facts)


def _told(node: Any) -> str:
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return f"{op} {node.name[:80]!r}" if node.name else f"a {op}"


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
