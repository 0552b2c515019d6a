"""Operations that measure the ceilings of torch's devices.

This module imports torch; only a worker imports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from cspbench.machine.devices.spec import Operation

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16,
           "bf16": torch.bfloat16}  # fmt: skip


@dataclass(frozen=True)
class TorchProbe:
    """Operators of torch on one of its devices."""

    device: str
    precisions: tuple[str, ...]
    matrix_side: int
    caches: Mapping[str, int]

    @property
    def name(self) -> str | None:
        return torch.cuda.get_device_name() if self.device == "cuda" else None

    def matrix_product(self, precision: str) -> Operation:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        side, dtype = self.matrix_side, _DTYPES[precision]
        a, b = (torch.rand(side, side, device=self.device).to(dtype) for _ in range(2))
        out = torch.empty(side, side, device=self.device, dtype=dtype)
        return lambda: torch.mm(a, b, out=out)

    def copy(self, elements: int) -> Operation:
        a, b = self._arrays(2, elements)
        return lambda: a.copy_(b)

    def read(self, elements: int) -> Operation:
        (a,) = self._arrays(1, elements)
        return a.sum

    def triad(self, elements: int) -> Operation:
        a, b, c = self._arrays(3, elements)
        return lambda: torch.add(b, c, alpha=3.0, out=a)

    def one_operator(self) -> Operation:
        (one,) = self._arrays(1, 1)
        return lambda: torch.add(one, one, out=one)

    def synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _arrays(self, count: int, elements: int) -> list[torch.Tensor]:
        return [torch.ones(elements, device=self.device) for _ in range(count)]


@contextlib.contextmanager
def opened(
    device: str,
    threads: int,
    precisions: tuple[str, ...],
    matrix_side: int,
    caches: Mapping[str, int],
) -> Iterator[TorchProbe]:
    """Open a probe of a torch device; ``threads`` is the number of CPU threads."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        yield TorchProbe(device, precisions, matrix_side, caches)
