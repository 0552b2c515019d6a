"""PyTorch on the CPU, eager: the exported program, one operator after the other.

Timed: one call of the program under ``torch.inference_mode``. The input is cloned before the clock
starts.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.cache import ArtifactKind
from cspbench.axes import Axis, Options, resolve
from cspbench.backends.spec import BACKENDS, Device

if TYPE_CHECKING:
    from cspbench.backends._torch import TorchCpuSession

LAYOUT = Axis("layout", "contiguous", "choice", ("contiguous", "channels_last"), "memory format")


@dataclass(frozen=True)
class TorchCpu:
    """Spec of the backend."""

    name: str = "torch-cpu"
    summary: str = "PyTorch eager on the CPU, exported program"
    library: str = "torch"
    artifact: ArtifactKind = "pt2"
    device: Device = "cpu"
    axes: tuple[Axis, ...] = (LAYOUT,)

    def available(self) -> str | None:
        """PyTorch must be installed."""
        return None if importlib.util.find_spec("torch") else "PyTorch is not installed"

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCpuSession:
        """Load the program."""
        from cspbench.backends._torch import TorchCpuSession, load_program

        layout = resolve(self.axes, options)["layout"]
        return TorchCpuSession(load_program(artifact), threads, layout == "channels_last")


BACKENDS.add(TorchCpu())
