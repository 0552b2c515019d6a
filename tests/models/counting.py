"""An independent count of the paper's numbers, by hooks on a meta forward."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Count:
    """Convolution weights, the paper's BFLOPs, elements in and out, the largest layer."""

    params_conv: int = 0
    params: int = 0
    params_file: int = 0
    flops: int = 0
    max_layer: int = 0
    cio_conv: int = 0
    cio_paper: int = 0
    convs: list[tuple[str, int, int, int, int, int, int]] = field(default_factory=list)

    @property
    def params_m(self) -> float:
        return self.params_conv / 1e6

    @property
    def bflops(self) -> float:
        return self.flops / 1e9


def count(module: nn.Module, side: int) -> Count:
    """Count a module whose parameters are on the meta device at a square input."""
    found = Count()

    def hook(name, layer, inputs, output):
        elements = inputs[0].numel() + output.numel()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            k = layer.kernel_size[0] * layer.kernel_size[1]
            if isinstance(layer, nn.ConvTranspose2d):
                work = 2 * k * layer.out_channels // layer.groups * inputs[0].numel()
            else:
                work = 2 * k * layer.in_channels // layer.groups * output.numel()
            found.convs.append(
                (
                    name,
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size[0],
                    layer.stride[0],
                    layer.groups,
                    output.shape[-1],
                )
            )
            found.max_layer = max(found.max_layer, work)
            found.cio_conv += elements
        else:
            work = 0
            if isinstance(layer, nn.MaxPool2d):
                size = layer.kernel_size
                height, width = size if isinstance(size, tuple) else (size, size)
                work = height * width * output.numel()
        found.flops += work
        found.cio_paper += elements

    pools = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Softmax)
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, *pools)):
            layer.register_forward_hook(
                lambda layer, inputs, output, name=name: hook(name, layer, inputs, output)
            )
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                found.params_conv += layer.weight.numel()
                bias = layer.bias.numel() if layer.bias is not None else 0
                found.params_file += layer.weight.numel() + bias
        if isinstance(layer, nn.BatchNorm2d):
            found.params_file += 4 * layer.num_features
    found.params = sum(p.numel() for p in module.parameters())
    with torch.no_grad():
        module(torch.empty(1, 3, side, side, device="meta"))
    return found
