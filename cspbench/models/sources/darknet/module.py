"""A Darknet network as a torch module.

Detectors return a tuple of the maps that their detection layers read, in the order of the file:
boxes are not decoded. Every other network returns its last layer, as (batch, classes) where that is
1x1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor, nn

from cspbench.errors import InputError
from cspbench.models.sources.darknet import blocks, ops
from cspbench.models.sources.darknet.activations import activation
from cspbench.models.sources.darknet.network import DarknetNetwork
from cspbench.models.weights import damp

#: What makes the module of a layer, by its operation; convolutions may share weights (below).
_MAKERS: dict[type, Callable[[Any, ops.Layer], nn.Module]] = {
    ops.Activation: lambda op, _layer: activation(op.activation),
    ops.BatchNorm: lambda _op, layer: nn.BatchNorm2d(layer.out_shape[0]),
    ops.Connected: lambda op, layer: blocks.Connected(op, prod(layer.in_shapes[0])),
    ops.Crop: lambda op, layer: blocks.Crop(op, *layer.out_shape[1:]),
    ops.DepthPool: lambda op, _layer: blocks.DepthPool(op),
    ops.Detection: lambda _op, _layer: nn.Identity(),
    ops.GlobalPool: lambda _op, _layer: nn.AdaptiveAvgPool2d(1),
    ops.Identity: lambda _op, _layer: nn.Identity(),
    ops.Local: lambda op, layer: blocks.Local(op, layer.in_shapes[0], layer.out_shape),
    ops.Pool: lambda op, _layer: blocks.Pool(op),
    ops.Reorg: lambda op, _layer: blocks.Reorg(op),
    ops.Route: lambda op, _layer: blocks.Route(op),
    ops.Scale: lambda op, _layer: blocks.Scale(op),
    ops.Shortcut: lambda op, layer: blocks.Shortcut(op, len(layer.sources), layer.out_shape[0]),
    ops.Softmax: lambda op, _layer: blocks.Softmax(op),
    ops.Upsample: lambda op, _layer: blocks.Upsample(op),
}


def _modules(network: DarknetNetwork) -> nn.ModuleList:
    convolutions: dict[int, blocks.Conv] = {}
    modules = nn.ModuleList()
    for layer in network.layers:
        op = layer.op
        if isinstance(op, ops.Convolution):
            owner = None if op.shares is None else convolutions[op.shares]
            convolutions[layer.index] = blocks.Conv(op, layer.in_shapes[0][0], owner)
            modules.append(convolutions[layer.index])
        else:
            modules.append(_MAKERS[type(op)](op, layer))
        if isinstance(op, ops.Shortcut) and layer.index - 1 in convolutions:
            damp(modules[layer.index - 1])
    return modules


class DarknetModule(nn.Module):
    """The whole network: ``layers[i]`` is layer i of the file."""

    def __init__(self, network: DarknetNetwork) -> None:
        super().__init__()
        self.network = network
        self.layers = _modules(network)
        self._last_use = _last_uses(network)
        self._legal = {network.input[1:]}

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(n, channels, h, w) -> the network's outputs.

        Raises:
            InputError: the network does not exist at this input size.
        """
        self._check(blocks.sizes(x))
        maps: dict[int, Tensor] = {-1: x}
        outputs = []
        for layer, module in zip(self.network.layers, self.layers, strict=True):
            maps[layer.index] = module(*(maps[source] for source in layer.sources))
            if layer.index in self.network.outputs:
                outputs.append(maps[layer.index])
            for done in self._last_use[layer.index]:
                del maps[done]
        if self.network.detector:
            return tuple(outputs)
        last = outputs[0]
        return last.flatten(1) if blocks.sizes(last)[2:] == (1, 1) else last

    def _check(self, shape: tuple[int, ...]) -> None:
        channels = self.network.input[0]
        if len(shape) != 4 or shape[1] != channels:
            raise InputError(f"{self.network.path}: reads (n, {channels}, h, w), not {shape}")
        if shape[2:] not in self._legal:
            self._same_weights(self.network.resized(shape[2], shape[3]))
            self._legal.add((shape[2], shape[3]))

    def _same_weights(self, other: DarknetNetwork) -> None:
        for layer, resized in zip(self.network.layers, other.layers, strict=True):
            if isinstance(layer.op, ops.Connected | ops.Local) and layer.weights != resized.weights:
                _, height, width = self.network.input
                raise InputError(
                    f"{self.network.path}:{layer.line}: [{layer.kind}] fixes the input size to "
                    f"{height}x{width}, not {other.input[1]}x{other.input[2]}"
                )


def _last_uses(network: DarknetNetwork) -> list[list[int]]:
    """For each layer the maps that nothing reads after it, so that their memory is freed."""
    last = {index: index for index in range(-1, len(network.layers))}
    for layer in network.layers:
        for source in layer.sources:
            last[source] = layer.index
    uses: list[list[int]] = [[] for _ in network.layers]
    for source, user in last.items():
        uses[user].append(source)
    return uses
