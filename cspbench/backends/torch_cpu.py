"""PyTorch on the CPU: the exported program, eager, with folded batch norms, or compiled.

Timed: one call of the program under ``torch.inference_mode``. The input is cloned, and converted
where the precision asks for it, before the clock starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends._compiling import MODES, InductorSpec
from cspbench.backends.spec import ALLOCATOR, BACKENDS, SCOPE, LayerSession, SingleLayer
from cspbench.core.options import Axis, Options, resolve
from cspbench.core.programs import find_program
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from cspbench.backends._torch import Program, TorchCpuSession

LAYOUT = Axis("layout", "contiguous", "choice", ("contiguous", "channels_last"), "memory format")
MODE = Axis(
    "mode",
    "eager",
    "choice",
    ("eager", "fused", "compile", "max-autotune", "aot"),
    "fused: batch norms folded; compile, max-autotune: folded, then Inductor in this mode; "
    "aot: folded, then AOTInductor",
)
PRECISION = Axis("precision", "fp32", "choice", ("fp32", "bf16"), "of weights and activations")


def _compiler() -> str | None:
    return find_program("g++") or find_program("clang++")


class TorchCpu(InductorSpec):
    """Spec of the backend."""

    def available(self) -> str | None:
        """PyTorch must be installed."""
        return None if importlib.util.find_spec("torch") else "PyTorch is not installed"

    def warm(self, options: Options) -> None:
        """Import the modules of loading and running; ``load`` reports a missing compiler."""
        from cspbench.backends._torch import warm

        mode = self.mode(options)
        warm(MODES["fused"] if mode.compiles and not _compiler() else mode)

    def profiler_activities(self) -> tuple[str, ...]:
        """torch.profiler sees its operators."""
        return ("CPU",)

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCpuSession:
        """Load the program; ``torch.compile`` compiles it at its first run."""
        from cspbench.backends import _torch

        chosen = resolve(self.axes, options)
        if self.compiles(options) and not _compiler():
            raise Unavailable(f"mode {chosen['mode']} needs a C++ compiler (g++ or clang++)")
        program = _torch.read_program(artifact, chosen, threads)
        call = _torch.callable_of(program, artifact, chosen)
        return _torch.TorchCpuSession(call, chosen, program.dtype, program.layout)

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times of the graph's operators, one after the other."""
        from cspbench.backends import _torch

        program = self._operators(artifact, options, threads)
        return _torch.ProfiledProgram(
            program.graph, lambda array: _torch.to_input(array, program.dtype, program.layout)
        )

    def single_layers(
        self, artifact: Path, options: Options, threads: int
    ) -> Iterator[SingleLayer]:
        """Each operator of the graph that computes."""
        from cspbench.backends import _torch_layers

        program = self._operators(artifact, options, threads)
        return _torch_layers.operators_of(program.graph, program.examples())

    def _operators(self, artifact: Path, options: Options, threads: int) -> Program:
        """The program, if its own operators run.

        Raises:
            Unsupported: it is compiled.
        """
        from cspbench.backends import _torch

        if self.compiles(options):
            raise Unsupported("a compiled program has no single operators to time")
        return _torch.read_program(artifact, resolve(self.axes, options), threads)


BACKENDS.add(
    TorchCpu(
        "torch-cpu",
        "PyTorch on the CPU, exported program",
        "torch",
        "pt2",
        (ALLOCATOR, LAYOUT, MODE, PRECISION, SCOPE),
    )
)
