"""DenseNet-201 as Darknet has it, its elastic form, and the cross-stage-partial elastic form.

Source: WongKinYiu/CrossStagePartialNetworks "in progress/darknet/icfg/densenet201-leaky.cfg"
(10.850 BFLOPs at 256); allenai/elastic models/densenet.py (19.483 M PyTorch parameters; published
19.48 M / 8.77 at 224: the BFLOPs, 8.53, do not close). The partial form is searched: part 1 is half
of the base, part 2 a 1x1 convolution; t1 pools before it mixes (published 20.17 M / 7.13).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

GROWTH = 32
LAYERS = (6, 12, 48, 32)
ELASTIC_LAYERS = (10, 20, 40, 30)
BASES = (64, 128, 256, 512)
ELASTIC_BASES = (64, 192, 416, 848)


def _build(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Classifier, ConvBnAct
    from cspbench.models.dense import DenseBlock, SingleLayer
    from cspbench.models.staged import Backbone, Stage, resnet_stem

    act = str(options["act"])
    make_layer = partial(SingleLayer, hidden=4 * GROWTH, growth=GROWTH, act=act)
    stages: list[nn.Module] = []
    channels = 64
    for index, layers in enumerate(LAYERS):
        make_blocks = partial(DenseBlock, layers=layers, make_layer=make_layer, new_first=True)
        blocks = make_blocks(channels)
        wide = blocks.out_channels
        last = index == len(LAYERS) - 1
        # The configuration's last transition is narrower than half: 1792 to 512.
        out = wide if last else BASES[index + 1]
        stages.append(
            Stage(
                nn.MaxPool2d(2, 2) if index else None,
                blocks,
                None if last else ConvBnAct(wide, out, act=act),
                base_channels=channels,
                out_channels=out,
                make_blocks=make_blocks,
            )
        )
        channels = out
    classifier = Classifier(channels, conv_first=True)
    return Backbone(resnet_stem(act), stages, classifier, taps=(1, 2, 3), act=act)


def _build_elastic(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import BnActConv, Classifier
    from cspbench.models.dense import DenseBlock, ElasticLayer, densenet_stem, normalise
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])
    stages: list[nn.Module] = []
    channels = 64
    for index, layers in enumerate(ELASTIC_LAYERS):
        last = index == len(ELASTIC_LAYERS) - 1
        make_layer = partial(ElasticLayer, growth=GROWTH, act=act, pooled=not last)
        make_blocks = partial(DenseBlock, layers=layers, make_layer=make_layer)
        blocks = make_blocks(channels)
        wide = blocks.out_channels
        out = wide if last else wide // 2
        stages.append(
            Stage(
                nn.AvgPool2d(2, 2) if index else None,
                blocks,
                None if last else BnActConv(wide, out, act=act),
                base_channels=channels,
                out_channels=out,
                make_blocks=make_blocks,
            )
        )
        channels = out
    tail = normalise(channels, act)
    stem = densenet_stem(act)
    return Backbone(stem, stages, Classifier(channels), taps=(1, 2, 3), tail=tail, act=act)


def _build_partial_elastic(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import BnActConv, Chain, Classifier
    from cspbench.models.csp import CspStage, Slice
    from cspbench.models.dense import DenseBlock, ElasticLayer, densenet_stem, normalise
    from cspbench.models.staged import Backbone

    act = str(options["act"])
    stages: list[nn.Module] = []
    channels = 64
    for index, layers in enumerate(ELASTIC_LAYERS):
        last = index == len(ELASTIC_LAYERS) - 1
        half = channels // 2
        make_layer = partial(ElasticLayer, growth=GROWTH, act=act, pooled=not last)
        blocks = DenseBlock(half, layers, make_layer)
        wide = blocks.out_channels
        bypass: list[nn.Module] = [Slice(0, channels - half)]
        mix: list[nn.Module] = [BnActConv(wide, wide // 2, act=act)]
        if not last:
            bypass.append(nn.AvgPool2d(2, 2))
            mix.insert(0, nn.AvgPool2d(2, 2))
        out = channels - half + wide // 2
        stages.append(
            CspStage(
                part1=Chain(bypass, channels),
                part2=BnActConv(channels, half, act=act),
                blocks=blocks,
                t1=Chain(mix, wide),
                t2=BnActConv(out, out, act=act),
                out_channels=out,
            )
        )
        channels = out
    tail = normalise(channels, act)
    stem = densenet_stem(act)
    # The first three stages end with a pool, so they put out strides 8, 16 and 32.
    return Backbone(stem, stages, Classifier(channels), taps=(0, 1, 3), tail=tail, act=act)


MODELS.add(
    ModelSpec(
        name="densenet201", summary="densely connected network",
        source="WongKinYiu/CrossStagePartialNetworks icfg/densenet201-leaky.cfg",
        confidence="confirmed", build=_build, family="densenet", input=256, axes=(act_axis(),),
        necks=True, staged=True, check=csp_check(BASES),
    )
)  # fmt: skip
MODELS.add(
    ModelSpec(
        name="densenet201-elastic",
        summary="DenseNet-201 with a half-resolution branch in every layer",
        source="allenai/elastic models/densenet.py", confidence="open", build=_build_elastic,
        family="densenet", axes=(act_axis("relu"),), necks=True, staged=True,
        check=csp_check(ELASTIC_BASES),
    )
)  # fmt: skip
MODELS.add(
    ModelSpec(
        name="cspdensenet201-elastic", summary="cross-stage-partial elastic DenseNet-201",
        source="CSPNet README counts; searched, does not meet them", confidence="open",
        build=_build_partial_elastic, family="densenet", axes=(act_axis("relu"),), necks=True,
    )
)  # fmt: skip
