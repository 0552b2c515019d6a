"""TensorRT by NVIDIA's Python package: what ``trtexec`` runs, on a card and on a Jetson board.

Timed: ``IExecutionContext.execute_async_v3`` to the end of ``torch.cuda.synchronize``, by the
host's clock; the inputs lie on the device already. Memory, streams, events and CUDA graphs are
torch's, so the device's own times are taken as for torch's backends. An engine computes in the
types of its ONNX file (strong typing, of which TensorRT 11 knows nothing else); ``fp32`` switches
TF32 off.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends.precisions import PRECISIONS, Precision
from cspbench.backends.spec import (
    BACKENDS,
    SCOPE,
    BackendSpec,
    LayerSession,
    Throughput,
    Workload,
)
from cspbench.backends.torch_cuda import FLUSH, check_flush
from cspbench.core.options import Axis, Options, resolve
from cspbench.errors import Unsupported
from cspbench.machine.devices import cuda

if TYPE_CHECKING:
    from cspbench.backends._torch_cuda import TorchCudaSession

PRECISION = Axis(
    "precision",
    "fp32",
    "choice",
    ("fp32", "tf32", "fp16", "int8"),
    "fp32 means TF32 off; int8: calibrated on seeded inputs",
)
DLA = Axis(
    "dla",
    "off",
    "choice",
    ("off", "core0", "core1"),
    "core of a Jetson's deep learning accelerator; the GPU runs what it cannot",
)
CUDAGRAPH = Axis("cudagraph", False, "flag", summary="capture the calls in a CUDA graph")


class TensorRt(BackendSpec):
    """Spec of the backend."""

    def available(self) -> str | None:
        """A CUDA device with a torch for it, and TensorRT."""
        if importlib.util.find_spec("tensorrt") is None:
            return "TensorRT is not installed (pip install tensorrt; JetPack brings its own)"
        return cuda.available()

    def compiles(self, _options: Options) -> bool:
        """An engine is built for minutes, and stays in the cache."""
        return True

    def compiled_from_cache(self) -> bool:
        """True if an earlier process had built the engine."""
        from cspbench.backends.common.compiled import was_there

        return was_there() is True

    def warm(self, _options: Options) -> None:
        """Start the device."""
        import torch

        torch.zeros(1, device="cuda")

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCudaSession:  # noqa: ARG002 - the host only submits
        """Load the engine, built if the cache has none, on to the first visible device."""
        from cspbench.backends._tensorrt import load

        chosen = resolve(self.axes, options)
        check_flush(chosen)
        return load(artifact, chosen)

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:  # noqa: ARG002
        """Times of the engine's layers by TensorRT's profiler."""
        from cspbench.backends._tensorrt import load_profiled

        chosen = resolve(self.axes, options)
        if chosen["cudagraph"] is True or chosen["flush_l2"] is True:
            raise Unsupported("TensorRT's profiler times layers of plain calls only")
        return load_profiled(artifact, chosen)

    def throughput(self, work: Workload) -> Throughput:
        """Inferences submitted to one stream without waiting for each, inputs on the device."""
        check_flush(resolve(self.axes, work.options), overlapped=True)
        from cspbench.backends._torch_cuda import submitted

        return submitted(self.load(work.artifact, work.options, work.threads), work)


PRECISIONS.add(
    Precision("int8", 0.15, 1, "8 bits for every product, and weights not trained for it")
)
BACKENDS.add(
    TensorRt(
        name="tensorrt",
        summary="TensorRT, ONNX",
        library="tensorrt",
        artifact="onnx",
        device="cuda",
        axes=(CUDAGRAPH, DLA, PRECISION, FLUSH, SCOPE),
    )
)
