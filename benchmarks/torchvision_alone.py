"""Makes torchvision importable where its operators are missing, as on a CPU-only torch.

``import torchvision`` describes its operators to torch, which refuses that for an operator that no
library defined. Those in question are defined here by name; to call one still fails.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

_KEPT: list[Any] = []  # a definition lasts as long as its library


def import_torchvision() -> Any:
    """The package, with or without its operators.

    Raises:
        ImportError: it is not installed.
    """
    import torch

    while True:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{missing[1]}(Tensor x) -> Tensor")
        _KEPT.append(library)
