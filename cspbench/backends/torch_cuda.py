"""PyTorch on a CUDA device, and on a Jetson board, whose GPU is one.

Timed: from the call of the program to the end of ``torch.cuda.synchronize``, by the host's clock;
the inputs lie on the device already and are read in turn. Launches of their own give the device's
own time, its kernels and its waiting. ``fp32`` switches TF32 off.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends._compiling import InductorSpec
from cspbench.backends.spec import BACKENDS, SCOPE, LayerSession, Throughput, Workload
from cspbench.backends.torch_cpu import LAYOUT
from cspbench.core.options import Axis, Options, resolve
from cspbench.errors import Unavailable, Unsupported
from cspbench.machine.devices import cuda

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cspbench.backends._torch import Program
    from cspbench.backends._torch_cuda import TorchCudaSession

PRECISION = Axis(
    "precision", "fp32", "choice", ("fp32", "tf32", "fp16", "bf16"), "fp32 means TF32 off"
)
MODE = Axis(
    "mode",
    "eager",
    "choice",
    ("eager", "fused", "compile", "cudagraph"),
    "fused: batch norms folded; compile: folded, then Inductor; cudagraph: folded, then captured",
)
FLUSH = Axis("flush_l2", False, "flag", summary="overwrite the L2 cache before every run")


@dataclass(frozen=True)
class TorchCuda(InductorSpec):
    """Spec of the backend; the Jetson entry is the same code on the board's own GPU."""

    needs_tegra: bool = False

    def available(self) -> str | None:
        """A driver, a device, and a torch that was built for CUDA."""
        if self.needs_tegra and not cuda.on_tegra():
            return "not an NVIDIA Jetson board (no /etc/nv_tegra_release)"
        return cuda.available()

    def warm(self, options: Options) -> None:
        """Import the modules of loading and running; start the device."""
        from cspbench.backends._torch import warm

        mode = str(resolve(self.axes, options)["mode"])
        warm("fused" if mode == "cudagraph" else mode, "cuda")

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCudaSession:
        """Load the program on to the first visible device (``CUDA_VISIBLE_DEVICES``)."""
        from cspbench.backends import _torch
        from cspbench.backends._torch_cuda import TorchCudaSession

        chosen = resolve(self.axes, options)
        _check_compiler(chosen)
        if chosen["flush_l2"] is True and chosen[SCOPE.name] != SCOPE.default:
            raise Unsupported("flush_l2 is for scope inference: it would flush the copied input")
        graph, dtype, layout = self._program(artifact, chosen, threads)
        captured = chosen["mode"] == "cudagraph"
        mode = "fused" if captured else str(chosen["mode"])
        call = _torch.in_mode(graph, mode, dtype, layout)
        return TorchCudaSession(
            call, chosen, dtype, layout, captured=captured, flush_l2=chosen["flush_l2"] is True
        )

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times of the graph's operators, or of a compiled one's kernels, by CUPTI."""
        from cspbench.backends import _torch
        from cspbench.backends._torch_cuda import CudaRuntime, TorchCudaSession
        from cspbench.backends._torch_trace import TracedProgram, TracedSession

        chosen = resolve(self.axes, options)
        if chosen["flush_l2"] is True:
            raise Unsupported("flush_l2 is for whole inferences, not for single layers")
        graph, dtype, layout = self._program(artifact, chosen, threads)
        mode, runtime = str(chosen["mode"]), CudaRuntime()
        captured = mode == "cudagraph"
        call = _torch.in_mode(graph, "fused" if captured else mode, dtype, layout)

        def to_input(array: np.ndarray) -> torch.Tensor:
            return _torch.to_input(array, dtype, layout).cuda()

        eager = TracedProgram(graph, to_input, runtime)
        if mode in ("eager", "fused"):
            return eager
        session = TorchCudaSession(call, chosen, dtype, layout, captured=captured, runtime=runtime)
        return TracedSession(session, eager if captured else None)

    def throughput(self, work: Workload) -> Throughput:
        """Inferences submitted to one stream without waiting for each, inputs on the device."""
        from cspbench.backends.common.throughput import run_for

        if resolve(self.axes, work.options)["flush_l2"] is True:
            raise Unsupported("flush_l2 has no meaning where inferences overlap")
        session = self.load(work.artifact, work.options, work.threads)
        session.set_input(work.inputs[0])
        session.run()
        there = [session.to_device(feed) for feed in work.inputs]
        throughput = run_for(
            session.submit, there, work.seconds, in_flight=session.IN_FLIGHT,
            method="one CUDA stream", finish=session.finish,
        )  # fmt: skip
        session.close()
        return throughput

    def _program(self, artifact: Path, chosen: Options, threads: int) -> Program:
        """Read the program on to the device, with these resolved options."""
        import torch

        from cspbench.backends import _torch
        from cspbench.backends._torch_cuda import set_precision

        if not torch.cuda.is_available():
            raise Unavailable("PyTorch finds no CUDA device")
        set_precision(str(chosen["precision"]))
        device = torch.device("cuda", torch.cuda.current_device())
        return _torch.read_program(artifact, chosen, threads, device)


def _check_compiler(chosen: Options) -> None:
    """Mode compile writes kernels in Triton and compiles their launchers in C.

    Raises:
        Unavailable: one of the two is missing, as on a Jetson board as it comes.
    """
    if chosen["mode"] != "compile":
        return
    if importlib.util.find_spec("triton") is None:
        raise Unavailable("mode compile needs Triton (pip install triton, a wheel for this CUDA)")
    compiler = os.environ.get("CC")
    if not any(map(shutil.which, [compiler] if compiler else ["gcc", "clang", "cc"])):
        raise Unavailable(f"mode compile needs a C compiler: {compiler or 'gcc'} is not in PATH")


for _name, _where, _tegra in (
    ("torch-cuda", "a CUDA device", False),
    ("jetson", "a Jetson board's GPU", True),
):
    BACKENDS.add(
        TorchCuda(
            name=_name,
            summary=f"PyTorch on {_where}, exported program",
            library="torch",
            artifact="pt2",
            device="cuda",
            axes=(LAYOUT, MODE, PRECISION, FLUSH, SCOPE),
            needs_tegra=_tegra,
        )
    )
