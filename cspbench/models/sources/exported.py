"""Programs written by ``torch.export.save``: ``exported:path.pt2``. Needs ``--allow-code``.

Torch's loader unpickles parts of the archive and resolves functions by the names in it, so such a
file can run any code.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.options import Options
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.code import require_code
from cspbench.models.sources.files import check_archive, image_side, regular_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

#: Bound of the graph's JSON text; a network of a thousand operators has about 1 MB.
MAX_GRAPH_BYTES = 64 * 1024 * 1024
#: Bounds of its lists and objects and of its values, each of which becomes an object of Python.
MAX_GRAPH_CONTAINERS = 2_000_000
MAX_GRAPH_VALUES = 3_000_000


def _graph(path: Path) -> dict[str, Any]:
    """Return the program's graph as plain data.

    Raises:
        InputError: not an exported program, or one too large.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith("models/model.json")]
            if not names:
                raise InputError(f"{path}: contains no exported program (models/model.json)")
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


def input_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the program's first input, as the archive states it.

    Raises:
        InputError: the archive does not state it.
    """
    try:
        module = _graph(path)["graph_module"]
        user = [s["user_input"] for s in module["signature"]["input_specs"] if "user_input" in s]
        name = user[0]["arg"]["as_tensor"]["name"]
        sizes = module["graph"]["tensor_values"][name]["sizes"]
        shape = tuple(int(size["as_int"]) for size in sizes)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: does not state the fixed shape of its input") from error
    if not all(1 <= side <= 1 << 14 for side in shape):
        raise InputError(f"{path}: its input is {shape}; only sides of 1 to {1 << 14} are measured")
    return shape


def spec(target: str) -> ModelSpec:
    """Describe the program without torch; its input size is fixed.

    Raises:
        InputError: not an exported program of one image input.
    """
    side = image_side(target, input_shape(regular_file(target, "an exported program")))
    assert side is not None, "an exported program's input is fixed"
    return ModelSpec(
        name=f"exported:{target}",
        summary="a program written by torch.export",
        source=target,
        confidence="confirmed",
        build=lambda options: build(target, options),
        family="exported",
        input=side,
        stride=side,
        min_input=side,
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
        return torch.export.load(path).module()
    except Exception as error:  # the loader has no error class of its own
        raise InputError(f"{target}: torch cannot load it ({first_line(error)})") from error


SOURCES.add(
    SourceSpec(
        name="exported", summary="a program written by torch.export.save: path of its .pt2 file",
        spec=spec, build=build, runs_code=True, files=lambda target, _options: (Path(target),),
    )
)  # fmt: skip
