"""Programs that AOTInductor compiled ahead of time into a package, which runs without Python.

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cspbench.backends.common.compiled import compiled

#: Folder and suffix in the cache; torch insists on this suffix.
PLACE = ("aot", ".pt2")


def packaged(
    graph: torch.fx.GraphModule, examples: Sequence[torch.Tensor], artifact: Path, settings: object
) -> Callable[..., Any]:
    """The graph as a package of machine code, compiled if the cache has none.

    Args:
        graph: what is compiled, on its device.
        examples: inputs, on that device.
        artifact: the file from which the graph was read.
        settings: what was done to the graph since.
    """

    def make(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its own calls
            program = torch.export.export(graph, tuple(examples))
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))

    facts = {
        "torch": torch.__version__,
        "settings": settings,
        "threads": torch.get_num_threads(),  # generated loops have their number in them
        "device": _device(examples),
    }
    path = compiled(PLACE, artifact, facts, make)
    package: Callable[..., Any] = torch._inductor.aoti_load_package(str(path))
    return package


def _device(examples: Sequence[torch.Tensor]) -> str:
    """For what machine code is made."""
    if examples[0].is_cuda:
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        return f"{name} {capability} CUDA {torch.version.cuda}"
    return torch.backends.cpu.get_cpu_capability()
