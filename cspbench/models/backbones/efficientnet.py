"""EfficientNet-B0 as Darknet has it.

Source: WongKinYiu/CrossStagePartialNetworks cfg/enetb0.cfg (4.81 M / 0.915 BFLOPs at 224). It
differs from the EfficientNet paper in strides and expansions (the CSPNet tables mark it with a
star).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StageWidths:
    """A stage: its first block (hidden and gate width, stride), then ``repeat`` further blocks."""

    out: int
    kernel: int
    hidden: int
    squeeze: int
    stride: int = 1
    repeat: int = 0
    repeat_kernel: int = 0


STAGES = (
    StageWidths(out=16, kernel=3, hidden=32, squeeze=8),
    StageWidths(out=24, kernel=3, hidden=96, squeeze=16, stride=2, repeat=1, repeat_kernel=3),
    StageWidths(out=40, kernel=5, hidden=144, squeeze=8, stride=2, repeat=1, repeat_kernel=5),
    StageWidths(out=80, kernel=3, hidden=192, squeeze=16, repeat=2, repeat_kernel=3),
    StageWidths(out=112, kernel=5, hidden=384, squeeze=24, stride=2, repeat=2, repeat_kernel=5),
    StageWidths(out=192, kernel=5, hidden=576, squeeze=32, stride=2, repeat=3, repeat_kernel=5),
    StageWidths(out=320, kernel=3, hidden=960, squeeze=64),
)
#: Hidden and gate width of a repeated block, by its stage's width.
REPEATED = {24: (144, 8), 40: (192, 16), 80: (384, 24), 112: (576, 32), 192: (960, 64)}
HEAD = 1280
BASES = (24, 40, 80, 112, 192)


def _build(options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.mobile import inverted
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, stage: StageWidths) -> Chain:
        hidden, squeeze = REPEATED[stage.out]
        # On a part of the base, the hidden widths shrink with it.
        hidden, squeeze = hidden * channels // stage.out, max(1, squeeze * channels // stage.out)
        blocks = [
            inverted(
                channels, hidden, channels, kernel=stage.repeat_kernel, squeeze=squeeze, act=act
            )
            for _ in range(stage.repeat)
        ]
        return Chain(blocks, channels)

    stages: list[nn.Module] = []
    channels = 32
    for index, stage in enumerate(STAGES):
        first = inverted(
            channels,
            stage.hidden,
            stage.out,
            kernel=stage.kernel,
            stride=stage.stride,
            squeeze=stage.squeeze,
            act=act,
        )
        if stage.repeat:
            module = Stage.splittable(first, partial(make_blocks, stage=stage), stage.out)
        else:
            last = index == len(STAGES) - 1
            head = ConvBnAct(stage.out, HEAD, act=act) if last else None
            out = HEAD if last else stage.out
            module = Stage(None, first, head, base_channels=channels, out_channels=out)
        stages.append(module)
        channels = stage.out
    stem = ConvBnAct(3, 32, 3, 2, act=act)
    return Backbone(stem, stages, Classifier(HEAD), taps=(3, 4, 6), act=act)


MODELS.add(
    ModelSpec(
        name="efficientnet-b0", summary="inverted residuals with squeeze and excitation",
        source="WongKinYiu/CrossStagePartialNetworks cfg/enetb0.cfg", confidence="confirmed",
        build=_build, family="efficientnet", axes=(act_axis("swish"),), necks=True, staged=True,
        check=csp_check(BASES),
    )
)  # fmt: skip
