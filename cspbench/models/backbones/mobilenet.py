"""MobileNet-v2 as Darknet has it, and its cross-stage-partial form.

Source: WongKinYiu/CrossStagePartialNetworks cfg/mobilenet-v2.cfg and cfg/csmobilenet-v2.cfg
(3.47 M / 0.858 and 2.51 M / 0.764 BFLOPs at 224). The strides are the
configurations', which differ from the MobileNetV2 paper's (the 64-channel blocks run at stride 8).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

#: Stages: blocks of (hidden, out, stride). The first block makes the base.
STAGES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((32, 16, 1),),
    ((96, 24, 2), (144, 24, 1)),
    ((144, 32, 2), (192, 32, 1), (192, 32, 1)),
    ((192, 64, 1), (384, 64, 1), (384, 64, 1), (384, 64, 1)),
    ((384, 96, 2), (576, 96, 1), (576, 96, 1)),
    ((576, 160, 2), (960, 160, 1), (960, 160, 1)),
    ((960, 320, 1),),
)
HEAD = 1280
#: Bases of the stages with more than one block, and how their hidden width follows the base.
BASES = (24, 32, 64, 96, 160)
EXPANSION = 6

#: Partial form: (channels before the stage, hidden 2x, first width, blocks of (hidden, out)).
PARTIAL: tuple[tuple[int, int, int, tuple[tuple[int, int], ...]], ...] = (
    (48, 96, 24, ((72, 24),)),
    (72, 144, 32, ((96, 32), (96, 32), (96, 64), (192, 64), (192, 64), (192, 64))),
    (192, 384, 96, ((288, 96), (288, 96))),
    (288, 576, 160, ((480, 160), (480, 160), (480, 320))),
)
PARTIAL_HEAD = 640


def _build(options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.mobile import inverted
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, count: int) -> Chain:
        hidden = EXPANSION * channels
        return Chain(
            [inverted(channels, hidden, channels, act=act) for _ in range(count)], channels
        )

    stages: list[nn.Module] = []
    channels = 32
    for index, ((hidden, width, stride), *rest) in enumerate(STAGES):
        first = inverted(channels, hidden, width, stride=stride, act=act)
        transition = ConvBnAct(width, HEAD, act=act) if index == len(STAGES) - 1 else None
        if rest:
            blocks = partial(make_blocks, count=len(rest))
            stage = Stage.splittable(first, blocks, width, transition=transition)
        else:
            out = HEAD if transition is not None else width
            stage = Stage(None, first, transition, base_channels=channels, out_channels=out)
        stages.append(stage)
        channels = width
    stem = ConvBnAct(3, 32, 3, 2, act=act)
    return Backbone(stem, stages, Classifier(HEAD), taps=(3, 4, 6), act=act)


def _build_partial(options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct, Residual
    from cspbench.models.csp import CspStage
    from cspbench.models.staged import Backbone

    act = str(options["act"])

    def block(in_channels: int, hidden: int, channels: int) -> nn.Module:
        body = Chain(
            [
                ConvBnAct(in_channels, hidden, act=act),
                ConvBnAct(hidden, 2 * hidden, 3, groups=hidden, act=act),
                ConvBnAct(2 * hidden, channels, act="linear"),
            ],
            in_channels,
        )
        return Residual(body, in_channels) if in_channels == channels else body

    def down(in_channels: int, hidden: int, channels: int) -> Chain:
        return Chain(
            [
                ConvBnAct(in_channels, hidden, 3, 2, groups=in_channels, act=act),
                ConvBnAct(hidden, channels, act="linear"),
            ],
            in_channels,
        )

    first = Chain(
        [
            ConvBnAct(32, 32, act=act),
            ConvBnAct(32, 32, 3, groups=32, act=act),
            ConvBnAct(32, 16, act="linear"),
        ],
        32,
    )
    widths = [base for base, *_ in PARTIAL] + [PARTIAL_HEAD]
    stages: list[nn.Module] = [
        CspStage(
            part1=ConvBnAct(32, 16, 3, groups=16, act=act),
            blocks=first,
            t2=ConvBnAct(32, widths[0], act=act),
            out_channels=widths[0],
        )
    ]
    for index, (base, hidden, width, blocks) in enumerate(PARTIAL):
        inputs = [width] + [out for _, out in blocks[:-1]]
        body = [block(c, h, out) for c, (h, out) in zip(inputs, blocks, strict=True)]
        merged = blocks[-1][1] + base
        stages.append(
            CspStage(
                part1=ConvBnAct(base, base, 3, 2, groups=base, act=act),
                blocks=Chain([down(base, hidden, width), *body], base),
                t2=ConvBnAct(merged, widths[index + 1], act=act),
                out_channels=widths[index + 1],
            )
        )
    stem = ConvBnAct(3, 32, 3, 2, act=act)
    return Backbone(stem, stages, Classifier(PARTIAL_HEAD), taps=(2, 3, 4), act=act)


_REPO = "WongKinYiu/CrossStagePartialNetworks"

MODELS.add(
    ModelSpec(
        name="mobilenet-v2", summary="inverted residuals with depthwise convolutions",
        source=f"{_REPO} cfg/mobilenet-v2.cfg", confidence="confirmed", build=_build,
        family="mobilenet", axes=(act_axis("relu"),), necks=True, staged=True,
        check=csp_check(BASES),
    )
)  # fmt: skip
MODELS.add(
    ModelSpec(
        name="cspmobilenet-v2", summary="cross-stage-partial MobileNet-v2",
        source=f"{_REPO} cfg/csmobilenet-v2.cfg", confidence="confirmed", build=_build_partial,
        family="mobilenet", axes=(act_axis("relu"),), necks=True,
    )
)  # fmt: skip
