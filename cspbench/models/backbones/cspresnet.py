"""Cross-stage-partial ResNet-10, ResNet-50 and ResNeXt-50, and their elastic forms.

Source: WongKinYiu/CrossStagePartialNetworks cfg/csresnet50.cfg, cfg/csresnext50.cfg and the
-elastic ones (8.97, 7.93, 9.36 and 5.45 BFLOPs at 256). CSPResNet-10 has no public configuration:
it is the most regular of an enumeration that comes near the published 2.73 M / 1.905 (2.717 M /
1.913).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

BLOCKS = (3, 3, 5, 2)
PARTS = (128, 256, 512, 1024)
#: The configurations make the split of these stages linear.
LINEAR_SPLITS = (1, 2)
CSPRESNET10_WIDTHS = (128, 128, 256, 512)


@dataclass(frozen=True)
class CspResNet:
    """Widths by stage: hidden layer of a block, output of a stage.

    ``first_part2`` is what enters the blocks of the first stage; ``groups`` is of a block's 3x3,
    ``down_groups`` of the strided 3x3 between stages.
    """

    hidden: tuple[int, ...]
    widths: tuple[int, ...]
    first_part2: int = 64
    groups: int = 1
    down_groups: int = 1
    elastic: bool = False


RESNET_WIDTHS = (128, 256, 512, 1024)
RESNEXT_WIDTHS = (256, 512, 1024, 2048)
CONFIGS: dict[str, tuple[str, CspResNet]] = {
    "cspresnet50": ("csresnet50", CspResNet((64, 128, 256, 512), RESNET_WIDTHS)),
    "cspresnet50-elastic": (
        "csresnet50-elastic",
        CspResNet((64, 128, 256, 512), RESNET_WIDTHS, first_part2=128, elastic=True),
    ),
    "cspresnext50": (
        "csresnext50",
        CspResNet((128, 256, 512, 1024), RESNEXT_WIDTHS, groups=32, down_groups=32),
    ),
    "cspresnext50-elastic": (
        "csresnext50-elastic",
        CspResNet(
            (64, 128, 256, 512), RESNEXT_WIDTHS, first_part2=128, groups=16, down_groups=32,
            elastic=True,
        ),
    ),
}  # fmt: skip


def _build(config: CspResNet, options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, Classifier, ConvBnAct, Residual
    from cspbench.models.csp import CspStage
    from cspbench.models.residual import (
        ELASTIC_DAMPING,
        ElasticPair,
        bottleneck_block,
        bottleneck_body,
    )
    from cspbench.models.staged import Backbone, resnet_stem

    act = str(options["act"])

    def elastic_block(channels: int, hidden: int) -> nn.Module:
        def body(width: int) -> nn.Module:
            return bottleneck_body(width, hidden, channels // 2, act, groups=config.groups)

        pair = ElasticPair(channels, body)
        return Residual(pair, channels, act=act, damping=ELASTIC_DAMPING)

    def plain_block(in_channels: int, hidden: int, channels: int) -> nn.Module:
        return bottleneck_block(in_channels, hidden, channels, act, groups=config.groups)

    stages: list[nn.Module] = []
    channels = 64
    for index, (count, part) in enumerate(zip(BLOCKS, PARTS, strict=True)):
        hidden, width = config.hidden[index], config.widths[index]
        entry = None
        if index:
            entry = ConvBnAct(channels, channels, 3, 2, groups=config.down_groups, act=act)
        split_act = "linear" if index in LINEAR_SPLITS else act
        part2 = part if index else config.first_part2
        if config.elastic:
            blocks = [elastic_block(part, hidden) for _ in range(count)]
        else:
            inputs = [part2] + [part] * (count - 1)
            blocks = [plain_block(width_in, hidden, part) for width_in in inputs]
        stages.append(
            CspStage(
                entry=entry,
                part1=ConvBnAct(channels, part, act=split_act),
                part2=ConvBnAct(channels, part2, act=split_act),
                blocks=Chain(blocks, part2),
                t1=ConvBnAct(part, part, act=act),
                t2=ConvBnAct(2 * part, width, act=act),
                out_channels=width,
            )
        )
        channels = width
    return Backbone(resnet_stem(act), stages, Classifier(channels), taps=(1, 2, 3), act=act)


def _build_small(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.csp import CspStage
    from cspbench.models.residual import basic_block
    from cspbench.models.staged import Backbone, resnet_stem

    act = str(options["act"])
    stages: list[nn.Module] = []
    channels = CSPRESNET10_WIDTHS[0]
    stem = Chain([resnet_stem(act), ConvBnAct(64, channels, act=act)], 3)
    for index, width in enumerate(CSPRESNET10_WIDTHS):
        half = width // 2
        stages.append(
            CspStage(
                entry=nn.MaxPool2d(2, 2) if index else None,
                part2=ConvBnAct(channels, half, act=act),
                blocks=Chain([basic_block(half, half, act)], half),
                t1=ConvBnAct(half, half, act=act),
                t2=ConvBnAct(channels + half, width, act=act),
                out_channels=width,
            )
        )
        channels = width
    return Backbone(stem, stages, Classifier(channels), taps=(1, 2, 3), act=act)


_REPO = "WongKinYiu/CrossStagePartialNetworks"

for _name, (_cfg, _config) in CONFIGS.items():
    _kind = "ResNeXt-50" if _config.groups > 1 else "ResNet-50"
    _elastic = ", elastic blocks" if _config.elastic else ""
    MODELS.add(
        ModelSpec(
            name=_name, summary=f"cross-stage-partial {_kind}{_elastic}",
            source=f"{_REPO} cfg/{_cfg}.cfg", confidence="confirmed",
            build=partial(_build, _config), family="resnet", input=256,
            # Elastic blocks halve the map at stride 32 once more.
            stride=64 if _config.elastic else 32, axes=(act_axis(),), necks=True,
        )
    )  # fmt: skip
MODELS.add(
    ModelSpec(
        name="cspresnet10", summary="cross-stage-partial ResNet-10",
        source=f"{_REPO} README counts; definition searched, within 0.5 %", confidence="searched",
        build=_build_small, family="resnet", input=256, axes=(act_axis(),), necks=True,
    )
)  # fmt: skip
