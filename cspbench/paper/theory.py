"""The closed forms of the papers, and what is counted of the blocks that they describe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cspbench.analysis.ops import CONV_KINDS
from cspbench.analysis.record import Analysis
from cspbench.analysis.stage_table import gradient_paths

if TYPE_CHECKING:
    from torch import nn


def dense_cio(base: int, growth: int, layers: int) -> int:
    """CIO per pixel of a dense block: c m + (m^2 + m) d / 2 (CSPNet, arXiv 1911.11929).

    Layer i of m reads c + (i - 1) d channels and writes d. It holds for one convolution a layer.
    """
    return base * layers + (layers * layers + layers) * growth // 2


def partial_dense_cio(base: int, growth: int, layers: int) -> float:
    """CIO per pixel of a partial dense block at gamma 0.5: (c m + (m^2 + m) d) / 2.

    That is a dense block on half the base. "About half" of a dense block's traffic is so where
    c m is much larger than (m^2 + m) d / 2, that is where the growth is small against the base.
    """
    return (base * layers + (layers * layers + layers) * growth) / 2


def memory_access_lower_bound(height: int, width: int, macs: int) -> float:
    """ShuffleNetV2's bound (arXiv 1807.11164) of a 1x1 convolution: 2 sqrt(h w B) + B / (h w).

    B = h w c1 c2 multiply-accumulates; reached where c1 = c2.
    """
    pixels = height * width
    return 2 * math.sqrt(pixels * macs) + macs / pixels


def _single_conv_block(base: int, growth: int, layers: int) -> nn.Module:
    """The block that the closed form describes: one 3x3 convolution a dense layer."""
    import torch

    from cspbench.models.blocks import ConvBnAct
    from cspbench.models.dense import DenseBlock

    with torch.device("meta"):
        return DenseBlock(base, layers, lambda channels: ConvBnAct(channels, growth, 3))


def counted_dense_cio(base: int, growth: int, layers: int) -> int:
    """CIO per pixel counted on the block that `dense_cio` describes."""
    from cspbench.analysis.api import analyze

    block = _single_conv_block(base, growth, layers)
    return int(analyze(block, (1, base, 1, 1), cache=False).cio_conv)


def counted_csp_paths(block: nn.Module, base: int, height: int, width: int) -> int:
    """Ways through a cross-stage-partial stage around ``block``, counted in its graph.

    Two 1x1 convolutions split the base, a transition follows the block, a second one the
    concatenation (fusion ``csp``). The block keeps its width, which ways do not depend on.
    """
    import torch

    from cspbench.analysis.api import analyze
    from cspbench.models.blocks import ConvBnAct
    from cspbench.models.csp import CspStage

    wide = int(block.out_channels)  # type: ignore[arg-type]
    bypass = max(1, base // 2)
    with torch.device("meta"):
        stage = CspStage(
            part1=ConvBnAct(base, bypass),
            part2=ConvBnAct(base, base),
            blocks=block,
            t1=ConvBnAct(wide, wide),
            t2=ConvBnAct(wide + bypass, wide),
            out_channels=wide,
        )
    layers = analyze(stage, (1, base, height, width), cache=False).layers
    return gradient_paths(layers, layers[0].inputs[0], layers[-1].outputs[0])


def block_rows(analysis: Analysis, module: nn.Module) -> list[dict[str, Any]]:
    """Closed form, counted form and the real block, for each dense block of a network.

    ``formula`` and ``counted`` are for one convolution a layer and agree; ``real`` counts the
    convolutions that the network's dense layers really have, which the formula does not describe.
    All per pixel. ``gradient_paths`` are the ways from the block's input to its output,
    ``gradient_paths_csp`` those through a cross-stage-partial stage around this block; the paper
    says that they double.
    """
    from cspbench.models.dense import DenseBlock

    rows: list[dict[str, Any]] = []
    for path, block in module.named_modules():
        if not isinstance(block, DenseBlock) or not len(block):
            continue
        layers = [la for la in analysis.layers if f"{la.name}.".startswith(f"{path}.")]
        growth = int(block[0].out_channels)  # type: ignore[arg-type]
        base = int(block.out_channels) - growth * len(block)
        batch, _, height, width = layers[0].input_shapes[0]
        pixels = batch * height * width
        real = sum(la.input_elements + la.output_elements for la in layers if la.kind in CONV_KINDS)
        rows.append(
            {
                "block": path,
                "base": base,
                "growth": growth,
                "layers": len(block),
                "cio_formula": dense_cio(base, growth, len(block)),
                "cio_counted": counted_dense_cio(base, growth, len(block)),
                "cio_real": real / pixels,
                "cio_partial_formula": partial_dense_cio(base, growth, len(block)),
                "cio_partial_counted": counted_dense_cio(base // 2, growth, len(block)),
                "gradient_paths": gradient_paths(
                    layers, layers[0].inputs[0], layers[-1].outputs[0]
                ),
                "gradient_paths_csp": counted_csp_paths(block, base, height, width),
            }
        )
    return rows


def bound_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """ShuffleNetV2's lower bound beside the counted cost, for the 1x1 convolutions it describes."""
    rows: list[dict[str, Any]] = []
    for layer in analysis.layers:
        pointwise = layer.kernel == (1, 1) and layer.stride == (1, 1) and layer.groups == 1
        if layer.kind != "conv" or not pointwise or layer.input_shapes[0][0] != 1:
            continue
        height, width = layer.output_shapes[0][2:]
        bound = memory_access_lower_bound(height, width, int(layer.values["macs"]))
        cost = int(layer.values["memory_access_cost"])
        rows.append(
            {
                "layer": layer.name,
                "channels_in": layer.input_shapes[0][1],
                "channels_out": layer.output_shapes[0][1],
                "memory_access_cost": cost,
                "lower_bound": bound,
                "ratio": cost / bound,
            }
        )
    return rows
