"""CSPDenseNet reference networks of the CSPNet paper's Table 5.

Source: published counts of the WongKinYiu/CrossStagePartialNetworks README (3.48 M / 0.886 and
1.38 M / 0.631). No regular definition is known that meets them: this is a working definition
(3.576 M / 0.862 and 1.347 M / 0.643). The last layer, 3x3 in Ref and 1x1 in b, follows from the
difference of the two rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

STEM_CHANNELS = 64
LAYERS = (3, 4, 8)
HIDDEN, GROWTH = 16, 32
LAST = 512


def _build(last_kernel: int, options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.csp import CspStage
    from cspbench.models.dense import DenseBlock, SingleLayer
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])
    channels = STEM_CHANNELS
    stem_parts = [
        ConvBnAct(3, 32, 3, 2, act=act),
        nn.MaxPool2d(2, 2),
        ConvBnAct(32, channels, act=act),
    ]
    stages: list[nn.Module] = []
    make_layer = partial(SingleLayer, hidden=HIDDEN, growth=GROWTH, act=act)
    for index, layers in enumerate(LAYERS):
        entry = None
        if index:
            entry = Chain([nn.MaxPool2d(2, 2), ConvBnAct(channels, channels, act=act)], channels)
        half = channels // 2
        blocks = DenseBlock(channels - half, layers, make_layer)
        wide = blocks.out_channels
        stages.append(
            CspStage(
                entry=entry,
                part1=ConvBnAct(channels, half, act=act),
                part2=ConvBnAct(channels, channels - half, act=act),
                blocks=blocks,
                t1=ConvBnAct(wide, wide, act=act),
                out_channels=half + wide,
            )
        )
        channels = half + wide
    last = Chain([ConvBnAct(channels, LAST, last_kernel, act=act)], channels)
    pool = nn.MaxPool2d(2, 2)
    stages.append(Stage(pool, last, None, base_channels=channels, out_channels=LAST))
    stem = Chain(stem_parts, 3)
    return Backbone(stem, stages, Classifier(LAST), taps=(1, 2, 3), act=act)


for _name, _kernel in (("cspdensenet-ref", 3), ("cspdensenetb-ref", 1)):
    MODELS.add(
        ModelSpec(
            name=_name,
            summary=f"cross-stage-partial DenseNet of Table 5, last layer {_kernel}x{_kernel}",
            source="CSPNet README counts; working definition, does not meet them",
            confidence="open", build=partial(_build, _kernel), family="densenet",
            axes=(act_axis(),), necks=True,
        )
    )  # fmt: skip
