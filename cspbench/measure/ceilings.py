"""Ceilings of a device: what it can do at best, measured here, for the roofline.

Williams, Waterman, Patterson (2009), "Roofline". Compute: the best rate of square matrix products.
Bandwidth: STREAM's copy, read (a sum) and triad (McCalpin 1995) over a working set at least four
times the last cache, and copies over small ones for the caches. Overhead: one operator on one
element. Each number is the best of several tries: a ceiling, not a typical value.

This module imports torch; it runs in a worker of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from cspbench.machine.sysfs import cache_sizes

#: A number is the best of this many tries.
TRIES = 7
#: A try repeats its operation for at least this long.
TRY_SECONDS = 0.05
MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
PRECISIONS = {
    "cpu": {"fp32": torch.float32, "bf16": torch.bfloat16},
    "cuda": {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16,
             "bf16": torch.bfloat16},
}  # fmt: skip
#: In a smaller cache a copy is over before an operator of torch has begun.
SMALLEST_CACHE = 256 * 2**10
#: Working set of the memory test where the last cache is unknown, and on a GPU.
DEFAULT_WORKING_SET = 512 * 2**20


def measure(device: str, threads: int) -> dict[str, Any]:
    """Measure one device.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: of the CPU; a GPU takes what it has.

    Returns:
        ``gflops`` by precision, ``bandwidth_gbs`` (``copy``, ``read``, ``triad``),
        ``cache_bandwidth_gbs`` by level, ``overhead_us`` of one operator, ``working_set_bytes``.
    """
    torch.set_num_threads(threads)
    caches = dict(cache_sizes()) if device == "cpu" else {}
    working_set = max([DEFAULT_WORKING_SET, *(4 * size for size in caches.values())])
    with torch.inference_mode():
        return {
            "gflops": {name: _gflops(device, name) for name in PRECISIONS[device]},
            "bandwidth_gbs": bandwidth(device, working_set),
            "cache_bandwidth_gbs": {
                level: bandwidth(device, size // 2)["copy"]
                for level, size in caches.items()
                if size >= SMALLEST_CACHE
            },
            "overhead_us": _overhead_us(device),
            "working_set_bytes": working_set,
            "threads": threads,
            "name": torch.cuda.get_device_name() if device == "cuda" else None,
        }


def best_seconds(operation: Callable[[], object], device: str) -> float:
    """Seconds of one ``operation`` at best: of TRIES tries of at least TRY_SECONDS each."""

    def one_try(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            operation()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    one_try(1)
    count = max(1, int(TRY_SECONDS / max(one_try(1), 1e-7)))
    return min(one_try(count) for _ in range(TRIES)) / count


def _gflops(device: str, precision: str) -> float:
    side = MATRIX_SIDE[device]
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = PRECISIONS[device][precision]
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    return 2 * side**3 / best_seconds(lambda: torch.mm(a, b, out=out), device) / 1e9


def bandwidth(device: str, working_set: int) -> dict[str, float]:
    """GB/s (1e9 bytes) read and written, by kind of access.

    Every kind touches the whole working set, in bytes: the fewer arrays, the longer they are.
    """
    return {
        name: _touched_gbs(arrays, access, device, working_set)
        for name, (arrays, access) in _ACCESSES.items()
    }


#: Kind of access: how many arrays it touches, and what it does with them.
_ACCESSES: dict[str, tuple[int, Callable[..., object]]] = {
    "copy": (2, lambda a, b: a.copy_(b)),
    "read": (1, lambda a: a.sum()),
    "triad": (3, lambda a, b, c: torch.add(b, c, alpha=3.0, out=a)),
}


def _touched_gbs(
    arrays: int, access: Callable[..., object], device: str, working_set: int
) -> float:
    count = max(1024, working_set // 4 // arrays)
    touched = [torch.ones(count, device=device) for _ in range(arrays)]
    return arrays * count * 4 / best_seconds(lambda: access(*touched), device) / 1e9


def _overhead_us(device: str) -> float:
    one = torch.ones(1, device=device)
    return best_seconds(lambda: torch.add(one, one, out=one), device) * 1e6
