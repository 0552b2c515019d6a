"""Every public network: the zoo's own model and the Darknet reader's are the same, layer by layer.

Both are run on the meta device and what they compute is recorded operator by operator; on some the
zoo's model gets the reader's weights, layer by layer, and the outputs are compared.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cspbench.models.build import build
from cspbench.models.sources.darknet.module import DarknetModule
from cspbench.models.sources.darknet.network import parse_network
from cspbench.models.weights import materialize
from tests.models.darknet_tables import tables

TABLES = tables()

#: Input channels, output channels, kernel, stride, groups, output height, output width.
Conv = tuple[int, int, int, int, int, int, int]


class Recorder(TorchDispatchMode):
    """Convolutions and max-pools in the order in which they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.convs: list[Conv] = []
        self.pools: list[tuple[int, ...]] = []
        self.weights: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "convolution":
            x, weight, _, stride, _, _, _, _, groups = args
            shape = out.shape
            self.convs.append(
                (x.shape[1], shape[1], weight.shape[2], stride[0], groups, *shape[2:])
            )
            self.weights.append(weight)
        elif name.startswith("max_pool2d"):
            self.pools.append((*args[1], *args[2], *out[0].shape[1:]))
        return out


def record(module: nn.Module, side: int) -> Recorder:
    recorder = Recorder()
    with torch.no_grad(), recorder:
        module(torch.empty(1, 3, side, side, device="meta"))
    return recorder


def from_cfg(name: str) -> DarknetModule:
    with torch.device("meta"):
        return DarknetModule(parse_network(TABLES[name].cfg(), name)).eval()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_same_layers(name):
    side = TABLES[name].side
    read, zoo = record(from_cfg(name), side), record(build(name, weights=False), side)
    assert zoo.convs == read.convs
    assert zoo.pools == read.pools


def copy_in_order(source: DarknetModule, target: nn.Module, side: int) -> None:
    """Give ``target``, on the meta device, the values of ``source`` layer by layer."""
    owners = {id(m.weight): m for m in target.modules() if isinstance(m, nn.Conv2d)}
    convs = [owners[id(weight)] for weight in record(target, side).weights]
    norms = norm_after(target, side)
    layers = [source.layers[layer.index] for layer in source.network.convolutions]
    for layer, conv in zip(layers, convs, strict=True):
        conv.load_state_dict(layer.conv.state_dict(), assign=True)
        norm = norms.get(id(conv))
        if norm is not None:
            norm.load_state_dict(layer.bn.state_dict(), assign=True)
        else:
            assert isinstance(layer.bn, nn.Identity)


def norm_after(module: nn.Module, side: int) -> dict[int, nn.BatchNorm2d]:
    """The normalisation that reads each convolution's output, found by running the module."""
    made: dict[int, nn.Conv2d] = {}
    keep, found, hooks = [], {}, []

    def convolved(conv: nn.Module, _args: Any, out: Tensor) -> None:
        keep.append(out)  # keeps the id unique
        made[id(out)] = conv

    def normalised(norm: nn.Module, args: tuple[Tensor], _out: Tensor) -> None:
        found[id(made[id(args[0])])] = norm

    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(part.register_forward_hook(convolved))
        elif isinstance(part, nn.BatchNorm2d):
            hooks.append(part.register_forward_hook(normalised))
    record(module, side)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    "name", ["cspresnext50", "resnet10", "yolov3-tiny-prn", "cspmobilenet-v2", "efficientnet-b0"]
)
def test_same_function(name):
    side = TABLES[name].side
    read, zoo = materialize(from_cfg(name)), build(name, weights=False)
    copy_in_order(read, zoo, side)
    materialize(zoo)
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = read.eval()(x), zoo.eval()(x)
    for a, b in zip(*(o if isinstance(o, tuple) else (o,) for o in (ours, theirs)), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()
