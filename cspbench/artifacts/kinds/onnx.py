"""ONNX files: exported from torch with static shapes, or imported from the user."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind, Node
from cspbench.artifacts.tensors import arrays_of
from cspbench.core.text import first_line
from cspbench.errors import Unavailable, Unsupported
from cspbench.models.inputs import TensorInput, signature
from cspbench.models.sources.files import regular_file
from cspbench.models.sources.onnx import stated_inputs
from cspbench.models.sources.onnx_data import embed
from cspbench.models.sources.onnx_nodes import check_nodes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch

    from cspbench.artifacts.spec import Example
    from cspbench.artifacts.tensors import Feed

#: ONNX opset; 17 is the newest that the TorchScript exporter writes and every backend reads.
OPSET = 17


def export(module: torch.nn.Module, example: Example, path: Path) -> None:
    """Write one ONNX file with static shapes.

    The TorchScript exporter is 5 to 10 times faster than the dynamo exporter, and every backend
    reads its files. The dynamo exporter is used with a torch that has no other.
    """
    import torch

    examples = example if isinstance(example, tuple) else (example,)
    names = ["input", *(f"input_{number}" for number in range(2, len(examples) + 1))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module, examples, str(path), opset_version=OPSET, input_names=names, dynamo=False
            )
        except TypeError:  # no such argument: this torch has only the dynamo exporter
            program = torch.onnx.export(module, examples, input_names=names)
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


def inputs(path: Path) -> tuple[TensorInput, ...]:
    """The inputs of an artifact, whose shapes are all numbers; onnx is not imported."""
    return signature(path, stated_inputs(path)).inputs


def import_file(file: Path, path: Path, first: Feed) -> list[np.ndarray]:
    """Write the user's file as one file, its inputs with the shapes of ``first``.

    Data files of the model become part of it, so that no backend looks for files.

    Returns:
        the outputs of ONNX Runtime, the reference of an ONNX file, for ``first``.

    Raises:
        InputError: a data file of the model cannot be trusted, or it has more nodes than a model
            may have.
        Unsupported: an input has another shape in the file, or ONNX Runtime cannot run it.
        Unavailable: ONNX Runtime is not installed.
    """
    import onnx

    model = onnx.load(str(regular_file(file, "an ONNX file")), load_external_data=False)
    check_nodes(model, str(file))
    embed(model, file)
    initialised = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in initialised]
    arrays = arrays_of(first)
    if len(values) != len(arrays):
        raise Unsupported(f"the ONNX file has {len(values)} inputs, not {len(arrays)}")
    for value, array in zip(values, arrays, strict=True):
        _fix_input(value, array.shape)
    onnx.save_model(model, str(path))
    return _reference(path, arrays)


def _fix_input(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        raise Unsupported(
            f"input {value.name!r} of the ONNX file has {len(dims)} dimensions, not {len(shape)}"
        )
    for dim, size in zip(dims, shape, strict=True):
        if dim.HasField("dim_value") and 0 < dim.dim_value != size:
            raise Unsupported(
                f"input {value.name!r} of the ONNX file is fixed to "
                f"{[d.dim_value for d in dims]}, not {list(shape)}"
            )
        dim.dim_value = size


def _reference(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        reason = "ONNX Runtime, the reference of an ONNX file, is not installed"
        raise Unavailable(f"{reason} (pip install onnxruntime)") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return list(session.run(None, dict(zip(names, arrays, strict=True))))
    except Exception as error:  # its exceptions share only this base
        raise Unsupported(f"ONNX Runtime cannot run the file: {str(error)[:300]}") from error


ARTIFACTS.add(
    ArtifactKind(
        "onnx",
        "ONNX file of static shapes",
        export,
        nodes,
        lambda: {"opset": OPSET},
        import_file,
        inputs=inputs,
    )
)
