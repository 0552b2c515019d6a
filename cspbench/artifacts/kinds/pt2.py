"""Programs of ``torch.export``: a graph of ATen operators and its weights in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind, Node
from cspbench.core.text import first_line
from cspbench.errors import Unsupported
from cspbench.models.inputs import TensorInput, signature
from cspbench.models.sources.exported import stated_inputs

if TYPE_CHECKING:
    import torch

    from cspbench.artifacts.spec import Example


def export(module: torch.nn.Module, example: Example, path: Path) -> None:
    """Write a ``torch.export`` program."""
    import torch

    examples = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        try:
            program = torch.export.export(module, examples)
        except Exception as error:  # its errors share no base class
            raise Unsupported(f"torch.export refuses the model: {first_line(error)}") from error
    torch.export.save(program, path)


def nodes(path: Path) -> list[Node]:
    """Operators of a program in the order in which they run."""
    from cspbench.artifacts.program import load_program

    calls = [node for node in load_program(path).graph.nodes if node.op == "call_function"]
    number = {node: position for position, node in enumerate(calls)}
    return [
        Node(
            node.name,
            str(node.target),
            tuple(number[feeder] for feeder in node.all_input_nodes if feeder in number),
        )
        for node in calls
    ]


def inputs(path: Path) -> tuple[TensorInput, ...]:
    """The inputs of an artifact, whose shapes are all numbers; torch is not imported."""
    return signature(path, stated_inputs(path)).inputs


ARTIFACTS.add(ArtifactKind("pt2", "program of torch.export", export, nodes, inputs=inputs))
