"""ResNet-10, ResNet-50 and ResNeXt-50 as Darknet has them: shortcuts without projections.

Source: WongKinYiu/CrossStagePartialNetworks cfg/resnet10.cfg, "in progress/darknet/icfg/
resnet50-leaky.cfg" (the published 9.74 BFLOPs; cfg/resnet50.cfg classifies before pooling) and
cfg/resnext50.cfg. They are not torchvision's: a shortcut adds the channels that both maps have, and
the pool of the stem is 2x2.
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
class ResNet:
    """Blocks by stage; hidden width as a share of the block's width; groups of the 3x3."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    divisor: int = 4
    groups: int = 1


RESNET50 = ResNet()
RESNEXT50 = ResNet(divisor=2, groups=32)
RESNET10_WIDTHS = (64, 128, 256, 512)


def _build_bottleneck(config: ResNet, options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier
    from cspbench.models.residual import bottleneck_block
    from cspbench.models.staged import Backbone, Stage, resnet_stem

    act = str(options["act"])

    def make_blocks(channels: int, count: int) -> Chain:
        hidden = channels // config.divisor
        blocks = [
            bottleneck_block(channels, hidden, channels, act, groups=config.groups)
            for _ in range(count)
        ]
        return Chain(blocks, channels)

    stages: list[nn.Module] = []
    channels = 64
    for index, (count, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
        # The first block changes width and resolution: it makes the base.
        hidden, stride = width // config.divisor, 2 if index else 1
        entry = bottleneck_block(channels, hidden, width, act, stride=stride, groups=config.groups)
        blocks, multiple = partial(make_blocks, count=count - 1), config.divisor * config.groups
        stages.append(Stage.splittable(entry, blocks, width, width_multiple=multiple))
        channels = width
    return Backbone(resnet_stem(act), stages, Classifier(channels), taps=(1, 2, 3), act=act)


def _build_basic(options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier
    from cspbench.models.residual import basic_block
    from cspbench.models.staged import Backbone, Stage, resnet_stem

    act = str(options["act"])
    stages: list[nn.Module] = []
    channels = 64
    for index, width in enumerate(RESNET10_WIDTHS):
        block = basic_block(channels, width, act, stride=2 if index else 1)
        blocks = Chain([block], channels)
        stages.append(Stage(None, blocks, None, base_channels=channels, out_channels=width))
        channels = width
    return Backbone(resnet_stem(act), stages, Classifier(channels), taps=(1, 2, 3), act=act)


_REPO = "WongKinYiu/CrossStagePartialNetworks"

MODELS.add(
    ModelSpec(
        name="resnet10", summary="small residual network, one basic block a stage",
        source=f"{_REPO} cfg/resnet10.cfg", confidence="confirmed", build=_build_basic,
        family="resnet", input=256, axes=(act_axis(),), necks=True,
    )
)  # fmt: skip
for _name, _config, _cfg in (
    ("resnet50", RESNET50, "in progress/darknet/icfg/resnet50-leaky.cfg"),
    ("resnext50", RESNEXT50, "cfg/resnext50.cfg"),
):
    _groups = ", 3x3 in 32 groups" if _config.groups > 1 else ""
    MODELS.add(
        ModelSpec(
            name=_name, summary=f"bottleneck residual network{_groups}", source=f"{_REPO} {_cfg}",
            confidence="confirmed", build=partial(_build_bottleneck, _config), family="resnet",
            input=256, axes=(act_axis(),), necks=True, staged=True,
            check=csp_check(_config.widths, _config.divisor * _config.groups),
        )
    )  # fmt: skip
