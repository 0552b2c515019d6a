"""Inputs of a model, bit-identical on every machine, and its outputs as a flat list.

Raw 64-bit integers of Philox (a counter-based generator whose raw stream numpy keeps stable),
scaled to [0, 1) like normalised pixels: no distribution code, no transcendental function. Pixels of
8 bits have their whole range. Other whole numbers are 0 or 1, which a table of any length has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cspbench.models.inputs import TensorInput

    #: What one inference reads: an array, or a tuple of them where the model has several inputs.
    Feed: TypeAlias = np.ndarray | tuple[np.ndarray, ...]

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
    """Return ``size`` different images."""
    return [input_tensor(shape, seed, index) for index in range(size)]


def values(one: TensorInput, seed: int, index: int) -> np.ndarray:
    """Values for one input in its type."""
    import numpy as np

    share = input_tensor(one.sides, seed, index)
    kind = np.dtype(one.dtype)
    if kind.kind == "f":
        return share.astype(kind, copy=False)
    if kind == np.uint8:
        return (share * np.float32(256)).astype(kind)
    if kind == np.int8:
        return (share * np.float32(256) - np.float32(128)).astype(kind)
    return (share >= np.float32(0.5)).astype(kind)


def input_feed(inputs: Sequence[TensorInput], seed: int, index: int) -> Feed:
    """What inference ``index`` of the pool reads; each further input has a stream of its own."""
    arrays = tuple(values(one, seed, index + (number << 16)) for number, one in enumerate(inputs))
    return arrays[0] if len(arrays) == 1 else arrays


def seeded_feeds(inputs: Sequence[TensorInput], seed: int, count: int = POOL_SIZE) -> list[Feed]:
    """The seeded inputs that inferences read in turn."""
    return [input_feed(inputs, seed, index) for index in range(count)]


def arrays_of(feed: Feed) -> tuple[np.ndarray, ...]:
    """The arrays of a feed in the order of the model's inputs."""
    return feed if isinstance(feed, tuple) else (feed,)


def as_list(result: Any) -> list[torch.Tensor]:
    """Flatten a model's result in order: tensors in tuples, lists, dicts, dataclasses, nested.

    None and plain numbers are no outputs.

    Raises:
        Unsupported: it holds something else, or no tensor at all.
    """
    tensors = list(_tensors(result))
    if not tensors:
        raise Unsupported(f"the model returns no tensor, but {type(result).__name__}")
    return tensors


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if hasattr(result, "element_size"):  # a tensor, recognised without importing torch
        yield result
        return
    if result is None or isinstance(result, int | float | str):
        return
    if dataclasses.is_dataclass(result):
        parts: Any = [getattr(result, field.name) for field in dataclasses.fields(result)]
    elif isinstance(result, Mapping):
        parts = result.values()
    elif isinstance(result, list | tuple):
        parts = result
    else:
        raise Unsupported(
            f"the model returns {type(result).__name__}; tensors in tuples, lists, dicts and "
            "dataclasses are read"
        )
    for part in parts:
        yield from _tensors(part)
