"""Darknet weights files: read and write, every header version.

Layout: major, minor, revision (int32); the number of images seen, 64 bits wide from version 0.2 on
and 32 before; then float32 values, layer after layer. Convolution: biases, with batch normalisation
also scales, means and variances, then weights (filters, channels / groups, size, size). Connected:
biases, weights, then scales, means and variances. A version above 1000 marks transposed weights of
connected layers; the forks of Darknet disagree on the width of its counter, so there the length of
the file decides.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn

from cspbench.core.files import open_input, replacing
from cspbench.errors import InputError
from cspbench.models.sources.darknet import blocks, ops
from cspbench.models.sources.darknet.module import DarknetModule
from cspbench.models.sources.files import regular_file


@dataclass(frozen=True)
class Header:
    """Version of the file and number of images that the network was trained on."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def transposed(self) -> bool:
        """True if connected layers store (inputs, outputs)."""
        return self.major > 1000 or self.minor > 1000

    @property
    def wide(self) -> bool:
        """True if the counter has 64 bits (by the original Darknet's rule)."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000


#: Where a layer keeps a tensor: the module and the name of its parameter or buffer.
Slot = tuple[nn.Module, str]


def _slots(module: nn.Module) -> list[Slot]:
    """The tensors of one layer in the order of the file; none for a layer without any."""
    slots: list[Slot] = []
    if isinstance(module, blocks.Conv) and module.op.shares is None:
        slots = _norm(module.bn) or [(module.conv, "bias")]
        slots.append((module.conv, "weight"))
    elif isinstance(module, blocks.Connected):
        norm = _norm(module.bn)
        slots = [norm[0] if norm else (module.linear, "bias"), (module.linear, "weight")]
        slots += norm[1:]
    elif isinstance(module, blocks.Local):
        slots = [(module, "bias"), (module, "weight")]
    elif isinstance(module, blocks.Shortcut) and module.op.weights != "none":
        slots = [(module, "weight")]
    elif isinstance(module, nn.BatchNorm2d):
        slots = _norm(module)
    return slots


def _norm(module: nn.Module) -> list[Slot]:
    if isinstance(module, nn.Identity):
        return []
    return [(module, name) for name in ("bias", "weight", "running_mean", "running_var")]


def read_weights(module: DarknetModule, path: str | Path) -> Header:
    """Fill ``module`` from a weights file; works on parameters on the meta device as well.

    Raises:
        InputError: the file cannot be read, or has fewer or more values than the network.
    """
    try:
        with open_input(regular_file(path, "a weights file")) as file:
            size = os.fstat(file.fileno()).st_size
            header = _read_header(file, path, size, module.network.params_file)
            for layer, part in zip(module.network.layers, module.layers, strict=True):
                for owner, name in _slots(part):
                    _fill(owner, name, _values(file, owner, name, header, layer, path))
            left = size - file.tell()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be read ({reason})") from error
    if left:
        raise InputError(
            f"{path}: has {left} bytes more than the {module.network.params_file} values of "
            f"{module.network.path}"
        )
    return header


def _read_header(file: BinaryIO, path: str | Path, size: int, values: int) -> Header:
    head = file.read(12)
    if len(head) < 12:
        raise InputError(f"{path}: is too short for the header of a weights file")
    header = Header(*struct.unpack("<iii", head))
    wide = header.wide
    if header.transposed and size == 12 + 8 + 4 * values:
        wide = True
    counter = file.read(8 if wide else 4)
    if len(counter) < (8 if wide else 4):
        raise InputError(f"{path}: is too short for the header of a weights file")
    seen = struct.unpack("<Q" if wide else "<I", counter)[0]
    return Header(header.major, header.minor, header.revision, seen)


def _values(
    file: BinaryIO, owner: nn.Module, name: str, header: Header, layer: ops.Layer, path: str | Path
) -> torch.Tensor:
    shape = tuple(getattr(owner, name).shape)
    count = int(np.prod(shape))
    values = np.fromfile(file, dtype="<f4", count=count)
    if len(values) < count:
        raise InputError(
            f"{path}: ends inside layer {layer.index} ([{layer.kind}] in line {layer.line} of the "
            f"configuration), {count - len(values)} of its {count} values of {name} are missing"
        )
    if header.transposed and isinstance(owner, nn.Linear) and name == "weight":
        values = values.reshape(shape[::-1]).T
    # A copy in native byte order, contiguous and writable.
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C").reshape(shape))


def _fill(owner: nn.Module, name: str, values: torch.Tensor) -> None:
    if name in owner._parameters:
        owner._parameters[name] = nn.Parameter(values)
    else:
        owner._buffers[name] = values


def write_weights(module: DarknetModule, path: str | Path, header: Header | None = None) -> None:
    """Write a weights file in the version that ``header`` names (0.2.5 without one).

    Raises:
        InputError: the file cannot be written.
    """
    header = header or Header()
    counter = "<iiiQ" if header.wide else "<iiiI"
    try:
        with replacing(Path(path)) as new, new.open("xb") as file:
            file.write(
                struct.pack(counter, header.major, header.minor, header.revision, header.seen)
            )
            for part in module.layers:
                for owner, name in _slots(part):
                    values = getattr(owner, name).detach().cpu().numpy()
                    if header.transposed and isinstance(owner, nn.Linear) and name == "weight":
                        values = values.T
                    file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
