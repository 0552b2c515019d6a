"""Reading of ``.pt2`` files, for the backends that run them and for the reader of their nodes.

This module imports torch; only workers import it.
"""

from __future__ import annotations

import contextlib
import gc
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cspbench.artifacts.program_file import ForTorchError, read_program_file

CPU = torch.device("cpu")


def load_program(artifact: Path, device: torch.device = CPU) -> torch.fx.GraphModule:
    """Load a ``.pt2`` file as a graph of operators, on a device.

    The graph's own checks of input shapes are left out: no deployed network runs this Python code,
    and inputs always have the exported shape.
    """
    if device == CPU:
        with contextlib.suppress(ForTorchError):
            return read_program_file(artifact)
    with _quick_reading():
        program = torch.export.load(artifact)
    if device != CPU:
        from torch.export.passes import move_to_device_pass

        # Moves also the graph's own operations that create tensors; Module.to moves only tensors.
        program = move_to_device_pass(program, device)
    try:
        graph = program.module(check_guards=False)
    except TypeError:  # torch before 2.9 puts no checks into the graph
        graph = program.module()
    graph.__dict__["validate_inputs"] = False  # the checks round the graph
    return graph


@contextlib.contextmanager
def _quick_reading() -> Iterator[None]:
    """Save a third of the time that torch takes to read a program from its JSON.

    torch reads the type hints of the same few dozen classes for every object, tens of thousands of
    times for a network; a cache answers repeated calls. The garbage collector is off, because it
    would free nothing.
    """
    plain: Any = typing.get_type_hints
    known: dict[tuple[Any, ...], Any] = {}

    def remembered(
        obj: Any, globalns: Any = None, localns: Any = None, include_extras: bool = False
    ) -> Any:
        key = (obj, id(globalns), id(localns), include_extras)  # namespaces of modules: they stay
        if key not in known:
            known[key] = plain(obj, globalns, localns, include_extras)
        return known[key]

    collecting = gc.isenabled()
    gc.disable()
    typing.get_type_hints = remembered
    try:
        yield
    finally:
        typing.get_type_hints = plain
        if collecting:
            gc.enable()
