"""Analysis of exported programs (``torch.export``): their graph holds every operator and shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node

from cspbench.analysis.dispatch import fallback
from cspbench.analysis.inventory import Inventory
from cspbench.analysis.layer import Shape
from cspbench.analysis.metric import Facts
from cspbench.analysis.record import Analysis, analysis_of
from cspbench.analysis.rules import ATEN_RULES
from cspbench.analysis.stages import stage_of_path
from cspbench.analysis.tracer import META, Tracer
from cspbench.core.text import first_line
from cspbench.errors import InputError


class _Walk(Interpreter):
    """Runs the graph on meta tensors; each operator is recorded under its module's path."""

    def __init__(self, program: ExportedProgram, tracer: Tracer) -> None:
        super().__init__(program.graph_module)
        self._tracer = tracer

    def run_node(self, n: Node) -> Any:
        stack = n.meta.get("nn_module_stack") or {}
        path = next(reversed(list(stack.values())), ("", None))[0]
        recorder = self._tracer.recorder
        recorder.path = path.removeprefix("L['self'].").removeprefix("L['self']")
        recorder.stage = stage_of_path(recorder.path)
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not isinstance(target, torch._ops.OpOverload):
            return super().call_function(target, args, kwargs)
        namespace, _, name = target._schema.name.partition("::")
        rule = ATEN_RULES.get(name, fallback) if namespace == "aten" else fallback
        return rule(self._tracer, target, args, kwargs)


def analyze_program(program: ExportedProgram) -> Analysis:
    """Analyse an exported program at the shapes that it was exported with.

    Raises:
        InputError: the program's shapes are symbolic, or an operator cannot tell its shape.
    """
    inventory = Inventory(nn.Module())
    arguments: list[Any] = []
    inputs: list[torch.Tensor] = []
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for spec, node in zip(program.graph_signature.input_specs, placeholders, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            arguments.append(_user_input(node))
            if isinstance(arguments[-1], torch.Tensor):
                inputs.append(arguments[-1])
            continue
        target = str(spec.target)
        tensor = program.state_dict.get(target, program.constants.get(target))
        arguments.append(tensor)
        if isinstance(tensor, torch.Tensor):
            role = "param" if spec.kind is InputKind.PARAMETER else "buffer"
            inventory.add(tensor, role, target.rpartition(".")[2])
    tracer = Tracer(inventory)
    for tensor in inputs:
        tracer.adopt(tensor)
    recorder = tracer.recorder
    recorder.peak_live_bytes = recorder.live_bytes
    try:
        with torch.no_grad():
            _Walk(program, tracer).run(*arguments, enable_io_processing=False)
    except Exception as error:
        raise InputError(f"the exported program cannot be followed: {first_line(error)}") from error
    facts = Facts(
        params=inventory.params,
        running_statistics=inventory.running_statistics,
        peak_live_bytes=recorder.peak_live_bytes,
        peak_layer=recorder.peak_index,
        weight_bytes=inventory.weight_bytes,
    )
    shapes = tuple(tuple(tensor.shape) for tensor in inputs)
    return analysis_of("exported program", "exported program", shapes, recorder.layers, facts)


def _user_input(node: Node) -> Any:
    """The example input of a placeholder: a meta tensor, or the value itself."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return value
    shape: Shape = tuple(value.shape)
    if not all(type(side) is int for side in shape):
        raise InputError(
            f"input {node.name} of the exported program has the symbolic shape "
            f"({', '.join(str(side) for side in shape)}); export it with static shapes"
        )
    return torch.empty(shape, dtype=value.dtype, device=META)
