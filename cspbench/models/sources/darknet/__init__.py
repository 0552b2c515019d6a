"""Darknet networks: ``darknet:path.cfg``, weights from ``.weights`` files or checkpoints.

The reader (``read_network``) needs no torch; the module and the weights import it when built.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.errors import InputError
from cspbench.models.inputs import IMAGE
from cspbench.models.sources.files import WEIGHTS, load_checkpoint, weights_file
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

    from cspbench.models.sources.darknet.network import DarknetNetwork

_STRIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Bound of the layers that looking for legal input sizes walks through (500 layers: 40 tries).
_TRIED_LAYERS = 20_000


def _read(target: str) -> DarknetNetwork:
    from cspbench.models.sources.darknet.network import read_network

    return read_network(target)


def other_sizes(network: DarknetNetwork) -> tuple[int, int] | None:
    """(What other input sides must be a multiple of, the smallest side), from trying sizes.

    None for a network that exists at its own size only. One of so many layers that trying would
    take long counts as such.
    """
    side, left = network.input[1], max(8, _TRIED_LAYERS // len(network.layers))

    def exists(side: int) -> bool:
        nonlocal left
        left -= 1
        try:
            # Connections to every place fix the input size: their number may not change.
            same = network.resized(side, side).params_file == network.params_file
        except InputError:
            return False
        return same and left >= 0

    for stride in _STRIDES:
        base = side - side % stride
        if base and all(exists(base + stride * step) for step in range(4)):
            break
    else:
        return None
    low, high = 0, base // stride  # the smallest legal multiple is above low, at most high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exists(middle * stride) else (middle, high)
    return stride, high * stride


def spec(target: str) -> ModelSpec:
    """Describe a .cfg file without torch.

    Raises:
        InputError: not a Darknet network; the message names file and line.
    """
    try:
        state = os.stat(target)
    except (OSError, ValueError):
        state = None  # reading it will say why
    return _spec(target, (state.st_mtime_ns, state.st_size) if state else None)


@functools.lru_cache(maxsize=64)
def _spec(target: str, _state: tuple[int, int] | None) -> ModelSpec:
    """A suite asks for the same file many times; a change shows in its time and size."""
    network = _read(target)
    channels, height, width = network.input
    others = other_sizes(network)
    stride, smallest = others or (1, 1)
    return ModelSpec(
        name=f"darknet:{target}",
        summary=f"Darknet network of {len(network.layers)} layers",
        source=target,
        confidence="own",
        build=lambda options: build(target, options),
        family="darknet",
        task="detection" if network.detector else "classification",
        input=(height, width),
        fixed=(None, None) if others else (height, width),
        inputs=(replace(IMAGE, shape=("N", channels, "H", "W")),),
        stride=stride,
        min_input=smallest,
        axes=(WEIGHTS,),
    )


def build(target: str, options: Options) -> nn.Module:
    """Return the network; without ``weights`` its parameters are on the meta device.

    Raises:
        InputError: not a Darknet network, or weights that do not fit it.
    """
    import torch

    from cspbench.models.sources.darknet.module import DarknetModule
    from cspbench.models.sources.darknet.weights import read_weights

    path = weights_file(options, Path(target).parent)
    with torch.device("meta"):
        module = DarknetModule(_read(target))
    if path is not None and path.suffix in (".pt", ".pth"):
        load_checkpoint(module, path)
    elif path is not None:
        read_weights(module, path)
    return module


def _files(target: str, options: Options) -> tuple[Path, ...]:
    weights = weights_file(options, Path(target).parent)
    return (Path(target),) if weights is None else (Path(target), weights)


SOURCES.add(
    SourceSpec(
        name="darknet", summary="a Darknet network: path of its .cfg file", spec=spec, build=build,
        axes=(WEIGHTS,), files=_files, endings=(".cfg",),
    )
)  # fmt: skip
