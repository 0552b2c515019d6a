"""VoVNet-39.

Source: Lee et al., "An Energy and GPU-Computation Efficient Backbone Network for Real-Time Object
Detection" (arXiv 1904.09730), and the authors' stigma0617/VoVNet.pytorch: five 3x3 convolutions a
module, concatenated once with their input; a stage's second module adds its input.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.gamma import csp_check
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn

#: Channels of a module's convolutions, channels after its aggregation, modules: by stage.
STAGES = ((128, 256, 1), (160, 512, 1), (192, 768, 2), (224, 1024, 2))
LAYERS = 5
BASES = (128, 256, 512, 768)


def _build(options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, conv_chain
    from cspbench.models.osa import OneShot
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, width: int, out: int, count: int) -> Chain:
        modules = [OneShot(channels, width, out, LAYERS, act)]
        modules += [OneShot(out, width, out, LAYERS, act, identity=True) for _ in range(count - 1)]
        return Chain(modules, channels)

    stages: list[nn.Module] = []
    channels = 128
    for index, (width, out, count) in enumerate(STAGES):
        blocks = partial(make_blocks, width=width, out=out, count=count)
        entry = nn.MaxPool2d(3, 2, ceil_mode=True) if index else None
        stages.append(Stage.splittable(entry, blocks, channels))
        channels = out
    stem = conv_chain(3, (64, 3, 2), (64, 3), (128, 3, 2), act=act)
    return Backbone(stem, stages, Classifier(channels), taps=(1, 2, 3), act=act)


MODELS.add(
    ModelSpec(
        name="vovnet39", summary="one-shot aggregation of dense features",
        source="arXiv 1904.09730; stigma0617/VoVNet.pytorch", confidence="open", build=_build,
        family="vovnet", axes=(act_axis("relu"),), necks=True, staged=True, check=csp_check(BASES),
    )
)  # fmt: skip
