"""Res2NetLite-72.

Source: WongKinYiu/CrossStagePartialNetworks cfg/res2netlite72.cfg (5.19 BFLOPs at 224); Res2Net:
arXiv 1904.01169.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (288, 576, 1152)
BLOCKS = (3, 7, 3)
SCALES = 4
GROUPS = 2


def _build(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.res2 import Res2Block
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, count: int) -> Chain:
        blocks = [Res2Block(channels, SCALES, GROUPS, act) for _ in range(count)]
        return Chain(blocks, channels)

    stages: list[nn.Module] = []
    channels = 32
    for width, count in zip(WIDTHS, BLOCKS, strict=True):
        narrow = width // SCALES
        entry = Chain(
            [
                ConvBnAct(channels, narrow, act=act),
                ConvBnAct(narrow, narrow, 3, 2, groups=GROUPS, act=act),
                ConvBnAct(narrow, width, act=act),
            ],
            channels,
        )
        blocks = partial(make_blocks, count=count)
        stages.append(Stage.splittable(entry, blocks, width, width_multiple=SCALES * GROUPS))
        channels = width
    stem = Chain([ConvBnAct(3, 32, 3, 2, act=act), nn.MaxPool2d(3, 2, 1)], 3)
    return Backbone(stem, stages, Classifier(channels), taps=(0, 1, 2), act=act)


MODELS.add(
    ModelSpec(
        name="res2netlite72", summary="multi-scale residual blocks",
        source="WongKinYiu/CrossStagePartialNetworks cfg/res2netlite72.cfg", confidence="confirmed",
        build=_build, family="resnet", axes=(act_axis(),), necks=True, staged=True,
        check=csp_check(WIDTHS, SCALES * GROUPS),
    )
)  # fmt: skip
