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

from cspbench.backends._compiling import MODES, InductorSpec
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
    tuple(MODES),
    "fused: batch norms folded; compile, reduce-overhead, max-autotune: folded, then Inductor in "
    "this mode; aot: folded, then AOTInductor; cudagraph: folded, then captured; cudagraph-eager, "
    "cudagraph-compile: captured unfused or compiled",
)
FLUSH = Axis("flush_l2", False, "flag", summary="overwrite the L2 cache before every run")


#: Languages of what starts a kernel, the variables that name their compilers, and usual names: of
#: ``torch.compile``, and of AOTInductor.
COMPILERS = (("C", "CC", ("gcc", "clang", "cc")), ("C++", "CXX", ("g++", "clang++")))


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

        warm(self.mode(options), "cuda")

    def profiler_activities(self) -> tuple[str, ...]:
        """torch.profiler sees its operators, and asks CUPTI for its kernels."""
        return ("CPU", "CUDA")

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCudaSession:
        """Load the program on to the first visible device (``CUDA_VISIBLE_DEVICES``)."""
        from cspbench.backends import _torch
        from cspbench.backends._cuda_runtime import CudaRuntime
        from cspbench.backends._torch_cuda import TorchCudaSession

        chosen = resolve(self.axes, options)
        if self.compiles(options):
            _check_compiler(str(chosen["mode"]))
        check_flush(chosen)
        program = self._program(artifact, chosen, threads)
        mode, runtime = self.mode(options), CudaRuntime()
        free = runtime.free_bytes()
        call = _torch.callable_of(program, artifact, chosen)
        # A package of AOTInductor keeps its weights outside of torch's allocator.
        foreign = max(0, free - runtime.free_bytes()) if mode.ahead else 0
        return TorchCudaSession(
            call, chosen, program.dtype, program.layout, captured=mode.captured,
            flush_l2=chosen["flush_l2"] is True, runtime=runtime, foreign_bytes=foreign,
        )  # fmt: skip

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times of the graph's operators, or of a compiled one's kernels, by CUPTI."""
        from cspbench.backends import _torch
        from cspbench.backends._cuda_runtime import CudaRuntime
        from cspbench.backends._torch_cuda import TorchCudaSession
        from cspbench.backends._torch_trace import TracedProgram, TracedSession

        chosen = resolve(self.axes, options)
        if chosen["flush_l2"] is True:
            raise Unsupported("flush_l2 is for whole inferences, not for single layers")
        program = self._program(artifact, chosen, threads)
        dtype, layout = program.dtype, program.layout
        mode, runtime = self.mode(options), CudaRuntime()

        def to_input(array: np.ndarray) -> torch.Tensor:
            return _torch.to_input(array, dtype, layout).cuda()

        eager = TracedProgram(program.graph, to_input, runtime)
        if mode.single_operators:
            return eager
        call = _torch.callable_of(program, artifact, chosen)
        session = TorchCudaSession(
            call, chosen, dtype, layout, captured=mode.captured, runtime=runtime
        )
        return TracedSession(session, None if mode.compiles else eager)

    def throughput(self, work: Workload) -> Throughput:
        """Inferences submitted to one stream without waiting for each, inputs on the device."""
        check_flush(resolve(self.axes, work.options), overlapped=True)
        from cspbench.backends._torch_cuda import submitted

        return submitted(self.load(work.artifact, work.options, work.threads), work)

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


def check_flush(chosen: Options, *, overlapped: bool = False) -> None:
    """Refuse a flush of the L2 cache where it would have no effect, or another one.

    Raises:
        Unsupported: inferences overlap, or the flush would come behind the copy of an input.
    """
    if chosen[FLUSH.name] is not True:
        return
    if overlapped:
        raise Unsupported("flush_l2 has no meaning where inferences overlap")
    if chosen[SCOPE.name] != SCOPE.default:
        raise Unsupported("flush_l2 is for scope inference: it would flush the copied input")


def _check_compiler(mode: str) -> None:
    """Inductor writes kernels in Triton and compiles what starts them, ahead of time in C++.

    Raises:
        Unavailable: one of the two is missing, as on a Jetson board as it comes.
    """
    if importlib.util.find_spec("triton") is None:
        raise Unavailable(f"mode {mode} needs Triton (pip install triton, a wheel for this CUDA)")
    language, variable, names = COMPILERS[mode == "aot"]
    compiler = os.environ.get(variable)
    if not any(map(shutil.which, [compiler] if compiler else names)):
        wanted = compiler or names[0]
        raise Unavailable(f"mode {mode} needs a {language} compiler: {wanted} is not in PATH")


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
