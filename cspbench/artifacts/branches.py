"""Whether a module takes branches that depend on what it reads.

An exporter by tracing writes only the branch that its example took, so that one of several networks
is measured. This module imports torch; only preparation imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

from cspbench.artifacts.modes import WatchingMode

#: Operators by which a value of a tensor becomes a Python number, which can decide a branch.
_READS = frozenset({torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default})


class BranchWatch(WatchingMode):
    """While it is on, notes whether a value that was computed from the inputs is read.

    Sizes are no values, and constants of the module decide the same way for every input.
    """

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._computed: Any = WeakTensorKeyDictionary()
        self.depends = False
        for tensor in inputs:
            self._computed[tensor] = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        computed = any(tensor in self._computed for tensor in _tensors((args, kwargs)))
        if computed and func in _READS:
            self.depends = True
        result = func(*args, **(kwargs or {}))
        if computed:
            for tensor in _tensors(result):
                self._computed[tensor] = True
        return result


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)]
