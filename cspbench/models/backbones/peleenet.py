"""PeleeNet and its sparse and grouped variants.

Source: Robert-JunWang/PeleeNet (arXiv 1804.06882); SPeleeNet and PeleeNeXt are the CSPNet paper's
(arXiv 1911.11929, Fig. 4), reconstructed from published counts. Counts at 224: PeleeNet
2.7915 M / 1.0166 BFLOPs, SPeleeNet 2.3911 M / 0.9042, PeleeNeXt 2.507 M / 0.8367.

The pools between stages are max-pools: the published 1.017 counts them, and the paper's convention
counts max-pools only (Robert-JunWang/PeleeNet averages; both have the same shapes). They round up,
as Robert-JunWang/Pelee needs at 304.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Axis, Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, Confidence, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Pelee:
    """Layers and bottleneck widths by stage; ``group_width`` of the 3x3 convolutions."""

    layers: tuple[int, ...] = (3, 4, 8, 6)
    hidden: tuple[int, ...] = (16, 32, 64, 64)
    sparse: bool = False
    group_width: int | None = None


#: Channels of the base of each stage (32 of the stem, then 32 more for every layer).
BASES = (32, 128, 256, 512)


def _build(config: Pelee, options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Classifier, ConvBnAct
    from cspbench.models.dense import DenseBlock, PeleeStem, SparseBlock, TwoWayLayer
    from cspbench.models.staged import Backbone, Stage

    act, se = str(options["act"]), bool(options["se"])
    block = SparseBlock if config.sparse else DenseBlock
    stages = []
    channels = 32
    for index, (layers, hidden) in enumerate(zip(config.layers, config.hidden, strict=True)):
        make_layer = partial(
            TwoWayLayer, hidden=hidden, act=act, group_width=config.group_width, se=se
        )
        make_blocks = partial(block, layers=layers, make_layer=make_layer)
        blocks = make_blocks(channels)
        out = blocks.out_channels
        stages.append(
            Stage(
                nn.MaxPool2d(2, 2, ceil_mode=True) if index else None,
                blocks,
                ConvBnAct(out, out, act=act),
                base_channels=channels,
                out_channels=out,
                make_blocks=make_blocks,
            )
        )
        channels = out
    return Backbone(PeleeStem(act), stages, Classifier(channels), taps=(1, 2, 3), act=act)


def _add(name: str, summary: str, source: str, confidence: Confidence, config: Pelee) -> None:
    MODELS.add(
        ModelSpec(
            name=name, summary=summary, source=source, confidence=confidence,
            build=partial(_build, config), family="peleenet",
            axes=(act_axis(), Axis("se", False, "flag", summary="squeeze and excitation")),
            necks=True, staged=True, check=csp_check(BASES),
        )
    )  # fmt: skip


_add(
    "peleenet", "dense two-way network for mobile devices", "Robert-JunWang/PeleeNet", "confirmed",
    Pelee(),
)  # fmt: skip
_add(
    "speleenet", "PeleeNet with sparse connections (i-1, i-2, i-4, i-8)",
    "CSPNet paper Fig. 4; connection rule solved from the published counts", "solved",
    Pelee(sparse=True),
)  # fmt: skip
_add(
    "peleenext", "PeleeNet with its 3x3 convolutions in groups of 8 channels",
    "CSPNet paper Fig. 4; groups searched on its BFLOPs", "searched", Pelee(group_width=8),
)  # fmt: skip
