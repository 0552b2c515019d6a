"""What torch-cpu and torch-cuda share: an exported program, run operator by operator (eager).

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cspbench.artifacts.tensors import as_list

if TYPE_CHECKING:
    import numpy as np

    from cspbench.axes import Value


def load_program(artifact: Path) -> torch.nn.Module:
    """Load a ``.pt2`` file as a module in its exported (inference) form."""
    return torch.export.load(artifact).module()


class TorchCpuSession:
    """An exported program on the CPU; ``run`` is one call under inference mode."""

    def __init__(self, module: torch.nn.Module, threads: int, channels_last: bool) -> None:
        torch.set_num_threads(threads)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._module = module.to(memory_format=self._format)  # type: ignore[call-overload]
        self._input = torch.empty(0)
        self._result: Any = None

    def set_input(self, array: np.ndarray) -> None:
        self._input = torch.from_numpy(array).clone(memory_format=self._format)

    def run(self) -> None:
        with torch.inference_mode():
            self._result = self._module(self._input)

    def outputs(self) -> Sequence[np.ndarray]:
        return [tensor.float().numpy().copy() for tensor in as_list(self._result)]

    def describe(self) -> Mapping[str, Value]:
        return {"version": torch.__version__, "threads": torch.get_num_threads()}

    def close(self) -> None:
        self._result = None


class TorchCudaSession:
    """An exported program on one CUDA device; ``run`` ends with a synchronisation."""

    def __init__(self, module: torch.nn.Module, precision: str, channels_last: bool) -> None:
        # fp32 means fp32: TF32 only where it was asked for.
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._module = module.to(device=self._device, dtype=self._dtype, memory_format=self._format)  # type: ignore[call-overload]
        self._precision = precision
        self._input = torch.empty(0)
        self._result: Any = None

    def set_input(self, array: np.ndarray) -> None:
        tensor = torch.from_numpy(array).to(self._device, self._dtype)
        self._input = tensor.contiguous(memory_format=self._format)
        torch.cuda.synchronize(self._device)

    def run(self) -> None:
        with torch.inference_mode():
            self._result = self._module(self._input)
        torch.cuda.synchronize(self._device)

    def outputs(self) -> Sequence[np.ndarray]:
        return [tensor.float().cpu().numpy() for tensor in as_list(self._result)]

    def describe(self) -> Mapping[str, Value]:
        properties = torch.cuda.get_device_properties(self._device)
        return {
            "version": torch.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "device": properties.name,
            "device_uuid": str(properties.uuid),
            "precision": self._precision,
        }

    def device_peak_bytes(self) -> int:
        """Peak of the caching allocator on the device since the process began."""
        return int(torch.cuda.max_memory_allocated(self._device))

    def close(self) -> None:
        self._result = None
        torch.cuda.empty_cache()
