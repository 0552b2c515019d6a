"""Reading of ``.pt2`` files without ``torch.export``: three times faster, and nothing is unpickled.

``torch.export.load`` imports Dynamo and makes a fake tensor of each value in the graph, which takes
longer than to import torch itself, in each process of each block of a measurement. A program that
is run needs the operators, the weights and the names alone. The format is that of
``torch/_export/serde/schema.py`` (version 8) and ``torch/export/pt2_archive/constants.py``; what a
graph holds besides tensors and plain arguments is left to torch's own reader.

This module imports torch; only workers import it.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from cspbench.models.sources.exported import SCALAR_TYPES

#: Major version of the schema that is read here.
SCHEMA = 8
#: ScalarType, MemoryFormat and Layout of the schema.
DTYPES: dict[int, torch.dtype] = {
    number: getattr(torch, name) for number, name in SCALAR_TYPES.items()
}
MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d,
    4: torch.preserve_format,
}  # fmt: skip
LAYOUTS = {7: torch.strided}
#: Arguments that are as JSON gives them.
_AS_THEY_ARE = {"as_int", "as_ints", "as_bool", "as_bools", "as_string", "as_strings"}
#: Inputs of the graph that the file holds: kind in the signature -> what names it there.
_HELD = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}

Json = Mapping[str, Any]


class ForTorchError(Exception):
    """The program has something that only torch's own reader reads."""


def read_program_file(path: Path) -> GraphModule:
    """The program of a file on the CPU, as ``torch.export.load(path).module()`` gives it.

    Its operators, their order, arguments and names, and so its code, are the same. It has no checks
    of its inputs and no metadata but the placeholders' values (on the meta device).

    Raises:
        ForTorchError: it has something that is not read here.
    """
    try:
        return _program(torch._C.PyTorchFileReader(str(path)))
    except _UNREADABLE as error:
        raise ForTorchError(str(error)) from error


#: What a file of another form ends in here, and a torch whose parts have other names.
_UNREADABLE = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, ImportError,
)  # fmt: skip


def _program(archive: Any) -> GraphModule:
    from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
    from torch.utils._pytree import treespec_loads

    stored = json.loads(archive.get_record("models/model.json"))
    if stored["schema_version"]["major"] != SCHEMA:
        raise ForTorchError("another version of the schema")
    module = stored["graph_module"]
    if module.get("treespec_namedtuple_fields"):
        raise ForTorchError("named tuples")
    signature = module["signature"]
    graph = _Reader(module["graph"], signature).graph()
    call = module["module_call_graph"][0]["signature"]
    graph.set_codegen(
        _PyTreeCodeGen(
            _PyTreeInfo(
                call["forward_arg_names"],
                treespec_loads(call["in_spec"]),
                treespec_loads(call["out_spec"]),
            )
        )
    )
    held = {**_tensors(archive, "weights"), **_tensors(archive, "constants")}
    names = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    read = GraphModule({name: held[name] for name in names}, graph)
    for spec in signature["input_specs"]:
        _as_in_the_model(read, spec)
    return read


def _as_in_the_model(module: GraphModule, spec: Json) -> None:
    """A constant is no buffer, whose type ``Module.to`` changes; not all buffers are kept."""
    ((kind, stated),) = spec.items()
    if kind not in ("tensor_constant", "buffer"):
        return
    *parents, field = stated[_HELD[kind]].split(".")
    owner = module.get_submodule(".".join(parents))
    if kind == "tensor_constant":
        tensor = getattr(owner, field)
        delattr(owner, field)
        setattr(owner, field, tensor)
    elif not stated["persistent"]:
        owner._non_persistent_buffers_set.add(field)


def _tensors(archive: Any, kind: str) -> dict[str, torch.Tensor]:
    """The weights or the constants by name; those of one record share its memory."""
    folder = f"data/{kind}/"
    config = json.loads(archive.get_record(f"{folder}model_{kind}_config.json"))["config"]
    records: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, stated in config.items():
        meta, record = stated["tensor_meta"], stated["path_name"]
        if stated["use_pickle"] or meta is None or meta["layout"] not in LAYOUTS:
            raise ForTorchError(f"{name} is no plain tensor")
        if record not in records:
            records[record] = _record(archive, folder + record, DTYPES[meta["dtype"]])
        tensor = records[record].as_strided(
            _numbers(meta["sizes"]), _numbers(meta["strides"]), _number(meta["storage_offset"])
        )
        parameter = stated["is_param"]
        found[name] = (
            torch.nn.Parameter(tensor, requires_grad=meta["requires_grad"]) if parameter else tensor
        )
    return found


def _record(archive: Any, name: str, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of a record, in memory that torch aligned."""
    flat = torch.empty(0, dtype=dtype)
    count = archive.get_record_size(name) // flat.element_size()
    if count:
        storage = archive.get_storage_from_record(name, count, dtype).untyped_storage()
        flat.set_(storage, 0, (count,), (1,))
    return flat


def _number(stated: Json) -> int:
    return int(stated["as_int"])  # a size that is open has a name instead


def _numbers(stated: list[Json]) -> list[int]:
    return [_number(one) for one in stated]


class _Reader:
    """Makes the graph that a program's JSON describes."""

    def __init__(self, stored: Json, signature: Json) -> None:
        self._stored = stored
        self._signature = signature
        self._graph = Graph()
        self._nodes: dict[str, Node] = {}

    def graph(self) -> Graph:
        """The graph; weights are attributes of its module, as in the model that was exported."""
        for spec in self._signature["input_specs"]:
            self._input(spec)
        for node in self._stored["nodes"]:
            self._node(node)
        results = [self._result(spec) for spec in self._signature["output_specs"]]
        self._graph.output(tuple(results))
        return self._graph

    def _input(self, spec: Json) -> None:
        ((kind, stated),) = spec.items()
        name = self._tensor_name(stated["arg"])
        if kind == "user_input":
            node = self._graph.placeholder(name)
            meta = self._stored["tensor_values"][name]
            node.meta["val"] = torch.empty(
                _numbers(meta["sizes"]), dtype=DTYPES[meta["dtype"]], device="meta"
            )
            node.name = name
        elif kind in _HELD:
            node = self._graph.get_attr(stated[_HELD[kind]])
        else:
            raise ForTorchError(f"an input of kind {kind}")
        self._nodes[name] = node

    def _tensor_name(self, argument: Json) -> str:
        """Of an argument, which is bare in the signature of weights."""
        return str(argument["name"] if "name" in argument else argument["as_tensor"]["name"])

    def _node(self, stored: Json) -> None:
        positional, named = [], {}
        for one in stored["inputs"]:
            value = self._value(one["arg"])
            if one["kind"] == 1:
                positional.append(value)
            else:
                named[one["name"]] = value
        node = self._graph.create_node(
            "call_function", _operator(stored["target"]), tuple(positional), named, stored["name"]
        )
        node.name = stored["name"]
        outputs = stored["outputs"]
        if len(outputs) == 1 and "as_tensor" in outputs[0]:
            self._nodes[outputs[0]["as_tensor"]["name"]] = node
            return
        several = outputs[0]["as_tensors"] if len(outputs) == 1 else outputs
        for index, one in enumerate(several):
            name = self._tensor_name(one)
            item = self._graph.create_node(
                "call_function", operator.getitem, (node, index), {}, name
            )
            item.name = name
            self._nodes[name] = item

    def _value(self, argument: Json) -> Any:
        ((kind, value),) = argument.items()
        if kind in _AS_THEY_ARE:
            return value
        if kind not in _READ:
            raise ForTorchError(f"an argument of kind {kind}")
        return _READ[kind](self._nodes, value)

    def _result(self, spec: Json) -> Any:
        ((kind, stated),) = spec.items()
        if kind != "user_output":
            raise ForTorchError(f"an output of kind {kind}")
        return self._value(stated["arg"])


def _float(stated: float | str) -> float:
    """JSON has no infinity, which stands there as a text."""
    return float(stated) if isinstance(stated, str) else stated


_READ: dict[str, Callable[[dict[str, Node], Any], Any]] = {
    "as_none": lambda _nodes, _value: None,
    "as_float": lambda _nodes, value: _float(value),
    "as_floats": lambda _nodes, value: list(map(_float, value)),
    "as_tensor": lambda nodes, value: nodes[value["name"]],
    "as_tensors": lambda nodes, value: [nodes[one["name"]] for one in value],
    "as_optional_tensors": lambda nodes, value: [
        nodes[one["as_tensor"]["name"]] if "as_tensor" in one else None for one in value
    ],
    "as_scalar_type": lambda _nodes, value: DTYPES[value],
    "as_memory_format": lambda _nodes, value: MEMORY_FORMATS[value],
    "as_layout": lambda _nodes, value: LAYOUTS[value],
    "as_device": lambda _nodes, value: torch.device(value["type"]),
}


def _operator(target: str) -> Any:
    """An operator of ATen by its name, such as ``torch.ops.aten.conv2d.default``."""
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5:
        raise ForTorchError(f"the operator {target}")
    return getattr(getattr(torch.ops.aten, parts[3]), parts[4])
