"""Make artifacts: build the model with torch, export it, keep torch's outputs beside it.

This module imports torch; it runs in a worker process of its own.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from cspbench.artifacts.cache import OPSET, ArtifactSpec
from cspbench.artifacts.store import write_atomically, write_outputs
from cspbench.artifacts.tensors import as_list, input_tensor
from cspbench.core.case import ModelId
from cspbench.errors import Unsupported


def build_model(model: ModelId, seed: int) -> torch.nn.Module:
    """Build with seeded weights, in inference mode."""
    from cspbench.models.build import build

    return build(model, seed=seed).eval()


def prepare(spec: ArtifactSpec, module: torch.nn.Module | None = None) -> None:
    """Write the artifact and its reference into the cache unless they are there.

    Args:
        spec: what to export.
        module: the built model, if the caller has it; must be what ``spec`` names.

    Raises:
        Unsupported: the exporter cannot express the model.
    """
    if spec.exists:
        return
    module = module or build_model(spec.model, spec.seed)
    spec.path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.from_numpy(input_tensor(spec.input_shape, spec.seed, 0))
    write = export_onnx if spec.kind == "onnx" else export_pt2
    write_atomically(spec.path, lambda path: write(module, example, path))
    with torch.inference_mode():
        outputs = [tensor.numpy() for tensor in as_list(module(example))]
    write_outputs(spec.reference, outputs)


def export_onnx(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write one ONNX file with static shapes.

    The TorchScript exporter is 5 to 10 times faster than the dynamo one and its files load
    everywhere; the dynamo exporter serves where a torch no longer has the other.
    """
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
            raise Unsupported(f"ONNX cannot express the model: {_first_line(error)}") from error


def export_pt2(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a ``torch.export`` program."""
    with torch.no_grad():
        try:
            program = torch.export.export(module, (example,))
        except Exception as error:  # its errors share no base class
            raise Unsupported(f"torch.export refuses the model: {_first_line(error)}") from error
    torch.export.save(program, path)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
