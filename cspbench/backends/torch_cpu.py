"""PyTorch on the CPU: the exported program, eager, with folded batch norms, or compiled.

Timed: one call of the program under ``torch.inference_mode``. The input is cloned, and converted
where the precision asks for it, before the clock starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.backends._compiling import InductorSpec
from cspbench.backends.spec import ALLOCATOR, BACKENDS, SCOPE, LayerSession, SingleLayer
from cspbench.core.options import Axis, Options, resolve
from cspbench.core.programs import find_program
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from cspbench.backends._torch import TorchCpuSession

LAYOUT = Axis("layout", "contiguous", "choice", ("contiguous", "channels_last"), "memory format")
MODE = Axis(
    "mode",
    "eager",
    "choice",
    ("eager", "fused", "compile"),
    "fused: batch norms folded; compile: folded, then Inductor",
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

        mode = str(resolve(self.axes, options)["mode"])
        warm("fused" if mode == "compile" and not _compiler() else mode)

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCpuSession:
        """Load the program; mode compile compiles it at its first run."""
        from cspbench.backends import _torch

        chosen = resolve(self.axes, options)
        if chosen["mode"] == "compile" and not _compiler():
            raise Unavailable("torch.compile needs a C++ compiler (g++ or clang++)")
        graph, dtype, layout = _torch.read_program(artifact, chosen, threads)
        call = _torch.in_mode(graph, str(chosen["mode"]), dtype, layout)
        return _torch.TorchCpuSession(call, chosen, dtype, layout)

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times of the graph's operators, one after the other."""
        from cspbench.backends import _torch

        chosen = resolve(self.axes, options)
        if chosen["mode"] == "compile":
            raise Unsupported("a compiled program has no single operators to time")
        graph, dtype, layout = _torch.read_program(artifact, chosen, threads)
        _torch.in_mode(graph, str(chosen["mode"]), dtype, layout)
        return _torch.ProfiledProgram(graph, lambda array: _torch.to_input(array, dtype, layout))

    def single_layers(
        self, artifact: Path, options: Options, threads: int
    ) -> Iterator[SingleLayer]:
        """Each operator of the graph that computes."""
        import torch

        from cspbench.backends import _torch, _torch_layers

        chosen = resolve(self.axes, options)
        if chosen["mode"] == "compile":
            raise Unsupported("a compiled program has no single operators to time")
        graph, dtype, layout = _torch.read_program(artifact, chosen, threads)
        _torch.in_mode(graph, str(chosen["mode"]), dtype, layout)
        examples = []
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                stated = node.meta["val"]
                real = stated.dtype.is_floating_point
                make = torch.rand if real else torch.zeros  # 0 is an index into anything
                example = make(*stated.shape, dtype=stated.dtype)
                examples.append(_torch.in_form(example, dtype, layout))
        return _torch_layers.operators_of(graph, examples)


BACKENDS.add(
    TorchCpu(
        "torch-cpu",
        "PyTorch on the CPU, exported program",
        "torch",
        "pt2",
        (ALLOCATOR, LAYOUT, MODE, PRECISION, SCOPE),
    )
)
