"""ONNX files: exported from torch with static shapes, or imported from the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.reference import Disagreement, Reference, largest_error
from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind, Node
from cspbench.artifacts.tensors import arrays_of
from cspbench.core.text import first_line
from cspbench.errors import Unavailable, Unsupported
from cspbench.models.inputs import TensorInput, signature
from cspbench.models.sources.files import regular_file
from cspbench.models.sources.onnx import stated_inputs
from cspbench.models.sources.onnx_data import embed
from cspbench.models.sources.onnx_nodes import check_nodes, name_nodes, sort_nodes, with_inner

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

    Data files of the model become part of it, so that no backend looks for files. Its nodes get an
    order in which they can run, and names by which profilers tell them apart.

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
    sort_nodes(model.graph, str(file))
    name_nodes(model.graph)
    onnx.save_model(model, str(path))
    return _run(_session(path), arrays)


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


def _session(path: Path, *, optimised: bool = True) -> Any:
    """A session of ONNX Runtime on the processor.

    Raises:
        Unavailable: it is not installed.
        Unsupported: it cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError:
        reason = "ONNX Runtime, the reference of an ONNX file, is not installed"
        raise Unavailable(f"{reason} (pip install onnxruntime)") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if not optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _told_as_unsupported(path):
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def _run(session: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    names = [one.name for one in session.get_inputs()]
    with _told_as_unsupported():
        results = list(session.run(None, dict(zip(names, arrays, strict=True))))
    if not all(hasattr(one, "dtype") for one in results):
        raise Unsupported("the file puts out a sequence or a map; outputs of tensors are measured")
    return results


@contextmanager
def _told_as_unsupported(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # its exceptions share only this base
        said = str(error).replace(f"Load model from {path} failed:", "")[:300]
        raise Unsupported(f"ONNX Runtime cannot run the file: {said}") from error


def reference(path: Path, feeds: Sequence[Feed]) -> Reference:
    """Outputs of ONNX Runtime without optimisation, which computes what the file says.

    How much the same with all optimisations differs says how sure they are: on some inputs a
    network amplifies what is rounded. Inputs on which the network cannot run, such as a range that
    it does not take, are left out, but the first.

    Raises:
        Unsupported: ONNX Runtime cannot run the file.
        Unavailable: it is not installed.
    """
    plain, fast = _session(path, optimised=False), _session(path)
    outputs = [_run(plain, arrays_of(feeds[0]))]
    error = _own_error(_run(fast, arrays_of(feeds[0])), outputs[0])
    for feed in feeds[1:]:
        try:
            more = _run(plain, arrays_of(feed))
            error = max(error, _own_error(_run(fast, arrays_of(feed)), more))
        except Unsupported:
            break
        outputs.append(more)
    return Reference("ONNX Runtime without optimisation", outputs, error, _numbers(path))


def _own_error(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Zero where there is none: not finite, or of other sizes, as results of a selection may be."""
    try:
        return largest_error(outputs, expected)
    except (Disagreement, Unsupported):
        return 0.0


def _numbers(path: Path) -> str:
    """In what numbers a file computes: by its quantising operators, or the types of its weights."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    if any(_is_quantised(node) for node in with_inner(graph.node)):
        return "int8"
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def _is_quantised(node: onnx.NodeProto) -> bool:
    name = node.op_type
    return "QLinear" in name or "Integer" in name or name.endswith("QuantizeLinear")


ARTIFACTS.add(
    ArtifactKind(
        "onnx",
        "ONNX file of static shapes",
        export,
        nodes,
        lambda: {"opset": OPSET},
        import_file,
        inputs=inputs,
        reference=reference,
    )
)
