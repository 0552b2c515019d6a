"""A Darknet configuration as a validated list of layers with exact shapes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from cspbench.errors import InputError
from cspbench.models.sources.darknet.cfg import Section, parse_sections, read_sections
from cspbench.models.sources.darknet.context import MAX_CHANNELS, Context, LayerDraft
from cspbench.models.sources.darknet.ops import (
    Convolution,
    DepthPool,
    Detection,
    Layer,
    Pool,
    Shape,
)
from cspbench.models.sources.darknet.sections import make

#: Bounds of a whole network: feature-map elements of one layer, and weights in sum (floats).
MAX_SIDE = 1 << 14
MAX_ELEMENTS = 1 << 28
MAX_WEIGHTS = 1 << 30


@dataclass(frozen=True)
class DarknetNetwork:
    """The layers of a network in the order of its file.

    ``input`` is (channels, height, width). ``outputs`` are the indices of the detection layers, or
    of the last layer if there is none. ``sections`` are those of the file.
    """

    path: str
    input: Shape
    layers: tuple[Layer, ...]
    outputs: tuple[int, ...]
    sections: tuple[Section, ...]

    @property
    def detector(self) -> bool:
        """True if the network ends in detection layers."""
        return isinstance(self.layers[self.outputs[0]].op, Detection)

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The convolutions, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer.op, Convolution))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def cio_conv(self) -> int:
        """Elements in + out of every convolution (HarDNet's CIO), batch 1."""
        return sum(layer.cio for layer in self.convolutions)

    @property
    def params_conv(self) -> int:
        """Weights of the convolutions only (the CSPNet paper's parameter count)."""
        return sum(layer.weights for layer in self.convolutions)

    @property
    def params_file(self) -> int:
        """Floats in a weights file of this network."""
        return sum(layer.file_floats for layer in self.layers)

    @property
    def darknet_bflops(self) -> float:
        """As Darknet prints them: 2 x MACs of convolutions + k k c oh ow of max-pools, / 1e9.

        Connected layers and anti-aliasing filters count nothing there. The ``bflops`` of an
        analysis count both: they multiply and accumulate as convolutions do.
        """
        pools = sum(_pool_operations(layer) for layer in self.layers)
        return (2 * sum(layer.macs for layer in self.convolutions) + pools) / 1e9

    def resized(self, height: int, width: int) -> DarknetNetwork:
        """Return the network at another input size.

        Raises:
            InputError: the network does not exist at that size.
        """
        return _network(self.sections, self.path, (self.input[0], height, width))


def _pool_operations(layer: Layer) -> int:
    op = layer.op
    if isinstance(op, DepthPool) or (isinstance(op, Pool) and not op.average):
        return int(op.size**2 * layer.in_shapes[0][0] * prod(layer.inner_shape[1:]))
    return 0


def read_network(path: str | Path) -> DarknetNetwork:
    """Read a .cfg file.

    Raises:
        InputError: it cannot be read, or is not a network; the message names file and line.
    """
    return _network(read_sections(path), str(path), None)


def parse_network(text: str, path: str = "<cfg>") -> DarknetNetwork:
    """Read a network from ``text``; ``path`` is only for messages.

    Raises:
        InputError: it is not a network; the message names the line.
    """
    return _network(parse_sections(text, path), path, None)


def _network(sections: Sequence[Section], path: str, size: Shape | None) -> DarknetNetwork:
    if not sections:
        raise InputError(f"{path}: has no [net] section, so it is not a network")
    head, *rest = sections
    if head.name.lower() not in ("net", "network"):
        raise InputError(f"{path}:{head.line}: the first section must be [net], not [{head.name}]")
    if not rest:
        raise InputError(f"{path}:{head.line}: [net] is not followed by any layer")
    shape = size or _input(head)
    layers: list[Layer] = []
    weights = 0
    for index, section in enumerate(rest):
        if section.name.lower() in ("net", "network"):
            raise section.fail("appears a second time")
        before = layers[-1].out_shape if layers else shape
        draft = make(section, Context(index, before, layers))
        layer = _layer(index, section, draft, layers, shape)
        weights += layer.weights
        if weights > MAX_WEIGHTS:
            raise section.fail(f"brings the network to more than {MAX_WEIGHTS} weights")
        layers.append(layer)
    outputs = tuple(layer.index for layer in layers if isinstance(layer.op, Detection))
    return DarknetNetwork(
        path, shape, tuple(layers), outputs or (len(layers) - 1,), tuple(sections)
    )


def _input(head: Section) -> Shape:
    for key in ("height", "width", "channels"):
        if key not in head.options:
            raise head.fail(f"needs {key}=: networks without an image as input are not supported")
    return (
        head.integer("channels", 0, 1, MAX_CHANNELS),
        head.integer("height", 0, 1, MAX_SIDE),
        head.integer("width", 0, 1, MAX_SIDE),
    )


def _layer(
    index: int, section: Section, draft: LayerDraft, layers: list[Layer], shape: Shape
) -> Layer:
    out, sources = draft.out_shape, draft.sources or (index - 1,)
    inner = draft.inner_shape or out
    if max(prod(out), prod(inner)) > MAX_ELEMENTS or out[0] > MAX_CHANNELS:
        sides = "x".join(str(side) for side in out)
        raise section.fail(f"its output of {sides} is larger than this reader allows")
    return Layer(
        index=index,
        kind=section.name.lower(),
        line=section.line,
        op=draft.op,
        sources=sources,
        in_shapes=tuple(shape if s < 0 else layers[s].out_shape for s in sources),
        out_shape=out,
        inner_shape=inner,
    )
