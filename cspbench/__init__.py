"""cspbench: benchmarks that explain themselves, for CNNs on CUDA, CPU-OpenCV and Jetson.

This is the public surface; everything else may change. Names are imported when first used, so that
``import cspbench`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

#: Public name -> module that holds it.
_PUBLIC = {
    "build": "cspbench.models.build",
    "analyze": "cspbench.analysis.api",
    "Analysis": "cspbench.analysis",
    "run": "cspbench.api",
    "load": "cspbench.views.frames",
    "explain": "cspbench.attribution",
    "Run": "cspbench.views.frames",
}

__all__ = ["Analysis", "Run", "__version__", "analyze", "build", "explain", "load", "run"]

if TYPE_CHECKING:
    from cspbench.analysis import Analysis
    from cspbench.analysis.api import analyze
    from cspbench.api import run
    from cspbench.attribution import explain
    from cspbench.models.build import build
    from cspbench.views.frames import Run, load


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cspbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
