"""DarkNet-53 and its cross-stage-partial forms.

Source: WongKinYiu/CrossStagePartialNetworks cfg/darknet53.cfg, cfg/csdarknet53.cfg and
cfg/csdarknet53-elastic.cfg (18.57, 13.07 and 7.74 BFLOPs at 256).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (64, 128, 256, 512, 1024)
BLOCKS = (1, 2, 8, 8, 4)
#: Partial networks: channels of each part, and of the hidden layer of a block.
PARTS = (64, 64, 128, 256, 512)
HIDDEN = (32, 64, 128, 256, 512)


def _build(options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.residual import dark_block
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, count: int) -> Chain:
        hidden = channels // 2
        return Chain([dark_block(channels, hidden, act) for _ in range(count)], channels)

    stages: list[nn.Module] = []
    channels = 32
    for width, count in zip(WIDTHS, BLOCKS, strict=True):
        entry = ConvBnAct(channels, width, 3, 2, act=act)
        blocks = partial(make_blocks, count=count)
        stages.append(Stage.splittable(entry, blocks, width, width_multiple=2))
        channels = width
    stem = ConvBnAct(3, 32, 3, act=act)
    return Backbone(stem, stages, Classifier(channels), taps=(2, 3, 4), act=act)


def _build_partial(elastic: bool, options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct, Residual, conv_chain
    from cspbench.models.csp import CspStage
    from cspbench.models.residual import ELASTIC_DAMPING, ElasticPair, dark_block
    from cspbench.models.staged import Backbone

    act = str(options["act"])

    def elastic_block(channels: int) -> nn.Module:
        def body(width: int) -> nn.Module:
            return conv_chain(width, (width,), (width, 3), act=act)

        return Residual(ElasticPair(channels, body), channels, damping=ELASTIC_DAMPING)

    stages: list[nn.Module] = []
    channels = 32
    for width, part, hidden, count in zip(WIDTHS, PARTS, HIDDEN, BLOCKS, strict=True):
        blocks = [
            elastic_block(part) if elastic else dark_block(part, hidden, act) for _ in range(count)
        ]
        stages.append(
            CspStage(
                entry=ConvBnAct(channels, width, 3, 2, act=act),
                part1=ConvBnAct(width, part, act=act),
                part2=ConvBnAct(width, part, act=act),
                blocks=Chain(blocks, part),
                t1=ConvBnAct(part, part, act=act),
                t2=ConvBnAct(2 * part, width, act=act),
                out_channels=width,
            )
        )
        channels = width
    stem = ConvBnAct(3, 32, 3, act=act)
    return Backbone(stem, stages, Classifier(channels), taps=(2, 3, 4), act=act)


MODELS.add(
    ModelSpec(
        name="darknet53", summary="residual backbone of YOLOv3",
        source="WongKinYiu/CrossStagePartialNetworks cfg/darknet53.cfg", confidence="confirmed",
        build=_build, family="darknet", input=256, axes=(act_axis(),), necks=True, staged=True,
        check=csp_check(WIDTHS, 2),
    )
)  # fmt: skip
for _name, _elastic, _cfg in (
    ("cspdarknet53", False, "csdarknet53"),
    ("cspdarknet53-elastic", True, "csdarknet53-elastic"),
):
    MODELS.add(
        ModelSpec(
            name=_name,
            summary="cross-stage-partial DarkNet-53" + (", elastic blocks" if _elastic else ""),
            source=f"WongKinYiu/CrossStagePartialNetworks cfg/{_cfg}.cfg", confidence="confirmed",
            build=partial(_build_partial, _elastic), family="darknet", input=256,
            # Elastic blocks halve the map at stride 32 once more.
            stride=64 if _elastic else 32, axes=(act_axis(),), necks=True,
        )
    )  # fmt: skip
