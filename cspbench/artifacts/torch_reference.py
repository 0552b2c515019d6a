"""Reference outputs of a torch module, and how much they differ from themselves.

This module imports torch; only preparation imports it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from cspbench.artifacts.reference import Reference, largest_error
from cspbench.artifacts.tensors import arrays_of, as_list

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed

#: A module that takes longer for an inference is not run once more without oneDNN, which takes
#: several times as long.
MOST_SECONDS = 2.0
#: Above it a module puts out something else each time: its own first outputs are all there is.
SAME = 0.1
_NUMBERS = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def torch_reference(
    module: torch.nn.Module, first: Sequence[np.ndarray], feeds: Sequence[Feed], *, frozen: bool
) -> Reference:
    """Run a module on more inputs, and on the first one without oneDNN.

    Args:
        module: in inference mode; it is run, and may keep what a run leaves behind.
        first: its outputs for the first input, before it was exported.
        feeds: the inputs.
        frozen: whether it takes branches by what it reads; others than the first input may take
            another one then.
    """
    numbers = next(
        (_NUMBERS[tensor.dtype] for tensor in module.parameters() if tensor.dtype in _NUMBERS),
        "fp32",
    )
    alone = Reference("torch", [first], numbers=numbers, frozen=frozen)
    if frozen:
        return alone
    start = time.monotonic()
    try:
        outputs = [first, *(_run(module, feed) for feed in feeds[1:])]
        if time.monotonic() - start > MOST_SECONDS * (len(feeds) - 1):
            return Reference("torch", outputs, numbers=numbers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.backends.mkldnn.flags(enabled=False):
                error = largest_error(_run(module, feeds[0]), first)
    except Exception:  # the module's own code: the first outputs are those of its export
        return alone
    return Reference("torch", outputs, error, numbers) if error < SAME else alone


def _run(module: torch.nn.Module, feed: Feed) -> list[np.ndarray]:
    with torch.inference_mode():
        result = module(*map(torch.from_numpy, arrays_of(feed)))
        return [tensor.numpy() for tensor in as_list(result)]
