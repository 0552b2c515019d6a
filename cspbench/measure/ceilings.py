"""Measures the ceilings of a device, its best rates, for the roofline.

Williams, Waterman, Patterson (2009), "Roofline". Compute: the best rate of square matrix products.
Bandwidth: STREAM's copy, read (a sum) and triad (McCalpin 1995) over a working set at least four
times the last cache, and copies over small ones for the caches. Overhead: one operator on one
element. Each number is the best of several tries, because a ceiling is not a typical value.

The device's own probe runs the operations, in a worker that imports its library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cspbench.errors import Unsupported
from cspbench.machine.devices.spec import DEVICES, Operation, Probe

#: A number is the best of this many tries.
TRIES = 7
#: A try repeats its operation for at least this long.
TRY_SECONDS = 0.05
#: In a smaller cache a copy takes less time than the overhead of an operator of torch.
SMALLEST_CACHE = 256 * 2**10
#: Working set of the memory test if the last cache is unknown, and on a GPU.
DEFAULT_WORKING_SET = 512 * 2**20
_BYTES = 4  # of a float32


def measure(device: str, threads: int) -> dict[str, Any]:
    """Measure one device.

    Args:
        device: name of a registered device.
        threads: of the CPU; a GPU uses all its units.

    Returns:
        ``gflops`` by precision, ``bandwidth_gbs`` (``copy``, ``read``, ``triad``),
        ``cache_bandwidth_gbs`` by level, ``overhead_us`` of one operator, ``working_set_bytes``.

    Raises:
        Unsupported: the device has no probe.
    """
    spec = DEVICES.get(device)
    if spec.probe is None:
        raise Unsupported(f"device {device!r} has no probe that could measure its ceilings")
    with spec.probe(threads) as probe:
        working_set = max([DEFAULT_WORKING_SET, *(4 * size for size in probe.caches.values())])
        return {
            "gflops": {name: _gflops(probe, name) for name in probe.precisions},
            "bandwidth_gbs": bandwidth(probe, working_set),
            "cache_bandwidth_gbs": {
                level: _touched_gbs(probe, probe.copy, 2, size // 2)
                for level, size in probe.caches.items()
                if size >= SMALLEST_CACHE
            },
            "overhead_us": best_seconds(probe.one_operator(), probe.synchronise) * 1e6,
            "working_set_bytes": working_set,
            "threads": threads,
            "name": probe.name,
        }


def best_seconds(operation: Operation, synchronise: Callable[[], None]) -> float:
    """Least seconds of one ``operation`` over TRIES tries of at least TRY_SECONDS each."""

    def one_try(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            operation()
        synchronise()
        return time.perf_counter() - start

    one_try(1)
    count = max(1, int(TRY_SECONDS / max(one_try(1), 1e-7)))
    return min(one_try(count) for _ in range(TRIES)) / count


def _gflops(probe: Probe, precision: str) -> float:
    seconds = best_seconds(probe.matrix_product(precision), probe.synchronise)
    return 2 * probe.matrix_side**3 / seconds / 1e9


def bandwidth(probe: Probe, working_set: int) -> dict[str, float]:
    """GB/s (1e9 bytes) read and written, by kind of access.

    Every kind touches ``working_set`` bytes in total, so fewer arrays are longer.
    """
    return {
        "copy": _touched_gbs(probe, probe.copy, 2, working_set),
        "read": _touched_gbs(probe, probe.read, 1, working_set),
        "triad": _touched_gbs(probe, probe.triad, 3, working_set),
    }


def _touched_gbs(
    probe: Probe, access: Callable[[int], Operation], arrays: int, working_set: int
) -> float:
    elements = max(1024, working_set // _BYTES // arrays)
    seconds = best_seconds(access(elements), probe.synchronise)
    return arrays * elements * _BYTES / seconds / 1e9
