"""Programs written by ``torch.export.save``: ``exported:path.pt2``. Needs ``--allow-code``.

Torch's loader unpickles parts of the archive and resolves functions by the names in it, so such a
file can run any code.
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.files import file_version
from cspbench.core.options import Options
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.code import require_code
from cspbench.models.input_file import INPUTS, input_file
from cspbench.models.inputs import Signature, StatedInput, signature
from cspbench.models.sources.files import check_archive, regular_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

#: Bound of the graph's JSON text; a network of a thousand operators has about 1 MB.
MAX_GRAPH_BYTES = 64 * 1024 * 1024
#: Bounds of its lists and objects and of its values, each of which becomes an object of Python.
MAX_GRAPH_CONTAINERS = 2_000_000
MAX_GRAPH_VALUES = 3_000_000
#: Where archives have it: since torch 2.7, and before.
_GRAPH_FILES = ("models/model.json", "serialized_exported_program.json")
#: torch._export.serde.schema.ScalarType, by numpy's names where numpy has the type.
SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip


def _graph(path: Path) -> dict[str, Any]:
    """Return the program's graph as plain data.

    Raises:
        InputError: not an exported program, or one too large.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(_GRAPH_FILES)]
            if not names:
                raise InputError(f"{path}: contains no exported program ({_GRAPH_FILES[0]})")
            with archive.open(names[0]) as file:
                text = file.read(MAX_GRAPH_BYTES + 1)
        if len(text) > MAX_GRAPH_BYTES:
            raise InputError(f"{path}: its graph is larger than {MAX_GRAPH_BYTES // 2**20} MiB")
        many = text.count(b"[") + text.count(b"{") > MAX_GRAPH_CONTAINERS
        if many or text.count(b",") > MAX_GRAPH_VALUES:
            raise InputError(f"{path}: its graph has more than {MAX_GRAPH_CONTAINERS:,} parts")
        graph = json.loads(text)
    except (OSError, zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError) as error:
        raise InputError(f"{path}: is not a readable exported program ({error})") from error
    return graph if isinstance(graph, dict) else {}


def stated_inputs(path: Path) -> tuple[StatedInput, ...]:
    """The program's tensor inputs in order, as the archive states them.

    Raises:
        InputError: the archive does not state them.
    """
    try:
        module = _graph(path)["graph_module"]
        values = module["graph"]["tensor_values"]
        names = [
            spec["user_input"]["arg"]["as_tensor"]["name"]
            for spec in module["signature"]["input_specs"]
            if "user_input" in spec and "as_tensor" in spec["user_input"]["arg"]
        ]
        return tuple(_stated(name, values[name]) for name in names)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not state its inputs") from error


def _stated(name: str, value: Mapping[str, Any]) -> StatedInput:
    """A tensor; an axis of another size at each call has no number, but an expression."""
    shape = tuple(int(size["as_int"]) if "as_int" in size else None for size in value["sizes"])
    return StatedInput(
        str(name), shape, SCALAR_TYPES.get(value["dtype"], f"number {value['dtype']}")
    )


@functools.lru_cache(maxsize=64)
def _signature(path: Path, *_version: int) -> Signature:
    """A plan asks for it with every case."""
    return signature(path, stated_inputs(path))


def spec(target: str) -> ModelSpec:
    """Describe the program without torch; sizes that it fixes are the only legal ones.

    Raises:
        InputError: not an exported program, or one whose inputs cannot be made.
    """
    path = regular_file(target, "an exported program")
    read = _signature(path, *file_version(path))
    return ModelSpec(
        name=f"exported:{target}",
        summary="a program written by torch.export",
        source=target,
        confidence="own",
        build=lambda options: build(target, options),
        family="exported",
        input=read.size,
        fixed=read.fixed,
        batch=read.batch,
        inputs=read.inputs,
        stride=1,
        min_input=1,
        axes=(INPUTS,),
    )


def build(target: str, _options: Options) -> nn.Module:
    """Load the program as a module.

    Raises:
        InputError: code is not allowed, or torch cannot load the file.
    """
    import torch

    path = regular_file(target, "an exported program")
    require_code(f"exported:{target}")
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # the loader has no error class of its own
        raise InputError(f"{target}: torch cannot load it ({first_line(error)})") from error

    class Program(torch.nn.Module):
        """The program stays in the mode in which it was exported; torch's refuses any other."""

        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.program(*inputs)

        def train(self, mode: bool = True) -> Program:
            self.training = mode
            return self

    return Program()


def _files(target: str, options: Options) -> tuple[Path, ...]:
    """The program, and the file of its inputs."""
    inputs = input_file(options)
    return (Path(target),) if inputs is None else (Path(target), inputs)


SOURCES.add(
    SourceSpec(
        name="exported", summary="a program written by torch.export.save: path of its .pt2 file",
        spec=spec, build=build, axes=(INPUTS,), runs_code=True, files=_files,
        endings=(".pt2",),
    )
)  # fmt: skip
