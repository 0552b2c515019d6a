"""PyTorch on a CUDA device, eager, and on a Jetson board, whose GPU is one.

Timed: from the call of the program to the end of ``torch.cuda.synchronize``, by the host's clock;
the input lies on the device already. ``fp32`` switches TF32 off.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.cache import ArtifactKind
from cspbench.axes import Axis, Options, resolve
from cspbench.backends.spec import BACKENDS, Device
from cspbench.backends.torch_cpu import LAYOUT
from cspbench.errors import Unavailable

if TYPE_CHECKING:
    from cspbench.backends._torch import TorchCudaSession

PRECISION = Axis(
    "precision", "fp32", "choice", ("fp32", "tf32", "fp16", "bf16"), "fp32 means TF32 off"
)
_TEGRA_RELEASE = Path("/etc/nv_tegra_release")


def torch_cuda_version() -> str | None:
    """CUDA version that the installed torch was built for, read without importing torch.

    Returns:
        such as "12.8", or None: no torch, or one without CUDA.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = (Path(found.origin).parent / "version.py").read_text()
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def on_tegra() -> bool:
    """True on an NVIDIA Jetson board (L4T)."""
    return _TEGRA_RELEASE.exists()


def nvidia_driver_loaded() -> bool:
    """True if a CUDA driver is at work: a desktop or server one, or a board's own."""
    return Path("/proc/driver/nvidia/version").exists() or on_tegra()


@dataclass(frozen=True)
class TorchCuda:
    """Spec of the backend; the Jetson entry is the same code on the board's own GPU."""

    name: str = "torch-cuda"
    summary: str = "PyTorch eager on a CUDA device, exported program"
    library: str = "torch"
    artifact: ArtifactKind = "pt2"
    device: Device = "cuda"
    axes: tuple[Axis, ...] = (LAYOUT, PRECISION)
    needs_tegra: bool = False

    def available(self) -> str | None:
        """A driver, a device, and a torch that was built for CUDA."""
        if self.needs_tegra and not on_tegra():
            return "not an NVIDIA Jetson board (no /etc/nv_tegra_release)"
        if not nvidia_driver_loaded():
            return "no NVIDIA driver is loaded"
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed"
        if torch_cuda_version() is None:
            return "the installed PyTorch was built without CUDA"
        return None

    def load(self, artifact: Path, options: Options, threads: int) -> TorchCudaSession:
        """Load the program on to the current device."""
        import torch

        from cspbench.backends._torch import TorchCudaSession, load_program

        if not torch.cuda.is_available():
            raise Unavailable("PyTorch finds no CUDA device")
        torch.set_num_threads(threads)
        chosen = resolve(self.axes, options)
        return TorchCudaSession(
            load_program(artifact), str(chosen["precision"]), chosen["layout"] == "channels_last"
        )


BACKENDS.add(TorchCuda())
BACKENDS.add(
    TorchCuda(
        name="jetson",
        summary="PyTorch eager on a Jetson board's GPU, exported program",
        needs_tegra=True,
    )
)
