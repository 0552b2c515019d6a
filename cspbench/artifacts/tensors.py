"""Inputs of a model, bit-identical on every machine, and its outputs as a flat list.

Raw 64-bit integers of Philox (a counter-based generator whose raw stream numpy keeps stable),
scaled to [0, 1) like normalised pixels: no distribution code, no transcendental function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

#: How many different inputs an inference loop cycles through, so that no answer can be cached.
POOL_SIZE = 4


def input_tensor(shape: tuple[int, ...], seed: int, index: int) -> np.ndarray:
    """Return float32 values in [0, 1) of the given shape; ``index`` numbers the pool."""
    import numpy as np

    count = int(np.prod(shape))
    raw = np.random.Philox(key=(seed << 32) + index).random_raw((count + 1) // 2)
    # Two 24-bit fractions of each 64-bit number: exactly what float32 can hold.
    halves = raw.view(np.uint32)[:count] >> 8
    return (halves.astype(np.float32) * np.float32(2.0**-24)).reshape(shape)


def input_pool(shape: tuple[int, ...], seed: int, size: int = POOL_SIZE) -> list[np.ndarray]:
    """Return ``size`` different inputs."""
    return [input_tensor(shape, seed, index) for index in range(size)]


def as_list(result: Any) -> list[torch.Tensor]:
    """Flatten a model's result (tensor, tuple, list, dict, nested) in order."""
    if hasattr(result, "element_size"):  # a tensor, recognised without importing torch
        return [result]
    parts = result.values() if isinstance(result, dict) else result
    return [tensor for part in parts for tensor in as_list(part)]
