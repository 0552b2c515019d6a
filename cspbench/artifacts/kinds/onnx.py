"""ONNX files: exported from torch with static shapes, or imported from the user."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind, Node
from cspbench.core.text import first_line
from cspbench.errors import Unavailable, Unsupported
from cspbench.models.sources.files import regular_file
from cspbench.models.sources.onnx_data import embed
from cspbench.models.sources.onnx_nodes import check_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch

#: ONNX opset; 17 is the newest that the TorchScript exporter writes and every backend reads.
OPSET = 17


def export(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write one ONNX file with static shapes.

    The TorchScript exporter is 5 to 10 times faster than the dynamo exporter, and every backend
    reads its files. The dynamo exporter is used with a torch that has no other.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module, (example,), str(path), opset_version=OPSET, input_names=["input"],
                dynamo=False,
            )  # fmt: skip
        except TypeError:  # no such argument: this torch has only the dynamo exporter
            program = torch.onnx.export(module, (example,), input_names=["input"])
            assert program is not None
            program.save(str(path), external_data=False)
        except torch.onnx.errors.OnnxExporterError as error:
            raise Unsupported(f"ONNX cannot express the model: {first_line(error)}") from error


def nodes(path: Path) -> list[Node]:
    """Nodes of an ONNX file in file order; weights are not read."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    producer = {name: number for number, node in enumerate(graph.node) for name in node.output}
    return [
        Node(
            node.name,
            node.op_type,
            tuple(producer[name] for name in node.input if name in producer),
            tuple(name for name in node.output if not name.startswith(f"{node.name}_output_")),
        )
        for node in graph.node
    ]


def import_file(file: Path, path: Path, first: np.ndarray) -> list[np.ndarray]:
    """Write the user's file as one file, its input with the shape of ``first``.

    Data files of the model become part of it, so that no backend looks for files.

    Returns:
        the outputs of ONNX Runtime, the reference of an ONNX file, for ``first``.

    Raises:
        InputError: a data file of the model cannot be trusted, or it has more nodes than a model
            may have.
        Unsupported: the input has another shape in the file, or ONNX Runtime cannot run it.
        Unavailable: ONNX Runtime is not installed.
    """
    import onnx

    model = onnx.load(str(regular_file(file, "an ONNX file")), load_external_data=False)
    check_nodes(model, str(file))
    embed(model, file)
    _fix_input(model, first.shape)
    onnx.save_model(model, str(path))
    return _reference(path, first)


def _fix_input(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    initialised = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialised]
    if len(inputs) != 1:
        raise Unsupported(f"the ONNX file has {len(inputs)} inputs; it must have one image input")
    dims = inputs[0].type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise Unsupported(f"the ONNX file's input has {len(dims)} dimensions, not {len(shape)}")
    for dim, size in zip(dims, shape, strict=True):
        if dim.HasField("dim_value") and dim.dim_value not in (0, size):
            raise Unsupported(
                f"the ONNX file's input is fixed to {[d.dim_value for d in dims]}, "
                f"not {list(shape)}"
            )
        dim.dim_value = size


def _reference(path: Path, first: np.ndarray) -> list[np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        reason = "ONNX Runtime, the reference of an ONNX file, is not installed"
        raise Unavailable(f"{reason} (pip install onnxruntime)") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return list(session.run(None, {session.get_inputs()[0].name: first}))
    except Exception as error:  # its exceptions share only this base
        raise Unsupported(f"ONNX Runtime cannot run the file: {str(error)[:300]}") from error


ARTIFACTS.add(
    ArtifactKind(
        "onnx", "ONNX file of static shapes", export, nodes, lambda: {"opset": OPSET}, import_file
    )
)
