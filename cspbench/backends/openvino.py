"""OpenVINO on the CPU, with single precision demanded (its default may be bfloat16).

Timed: ``InferRequest.infer``; the input tensor is shared, so nothing is copied before it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.cache import ArtifactKind
from cspbench.axes import Axis, Options, Value
from cspbench.backends.spec import BACKENDS, Device
from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class OpenVino:
    """Spec of the backend."""

    name: str = "openvino"
    summary: str = "OpenVINO on the CPU, fp32, ONNX"
    library: str = "openvino"
    artifact: ArtifactKind = "onnx"
    device: Device = "cpu"
    axes: tuple[Axis, ...] = ()

    def available(self) -> str | None:
        """OpenVINO must be installed."""
        if importlib.util.find_spec("openvino") is None:
            return "OpenVINO is not installed (pip install 'cspbench[openvino]')"
        return None

    def load(self, artifact: Path, options: Options, threads: int) -> OpenVinoSession:  # noqa: ARG002 - it has none
        """Compile the model for latency on ``threads`` threads."""
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        try:
            compiled = core.compile_model(core.read_model(str(artifact)), "CPU", settings)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot load the model: {error}") from error
        return OpenVinoSession(openvino, compiled)


class OpenVinoSession:
    """One inference request of a compiled model."""

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._openvino = openvino
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def set_input(self, array: np.ndarray) -> None:
        self._request.set_input_tensor(self._openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        self._request.infer()

    def outputs(self) -> Sequence[np.ndarray]:
        count = len(self._compiled.outputs)
        return [self._request.get_output_tensor(i).data.copy() for i in range(count)]

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": self._openvino.get_version(),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT")),
        }

    def close(self) -> None:
        self._request = None


BACKENDS.add(OpenVino())
