"""Darknet reference network.

Source: WongKinYiu/CrossStagePartialNetworks cfg/darknet.cfg (7.31 M / 0.96 BFLOPs at 256). Its last
stage is at stride 64; a detector reads the three before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(options: Options) -> nn.Module:
    from cspbench.models.blocks import Classifier
    from cspbench.models.plain import plain_stages, plain_stem
    from cspbench.models.staged import Backbone

    act = str(options["act"])
    stages = plain_stages((32, 64, 128, 256, 512, 1024), act)
    return Backbone(plain_stem(act), stages, Classifier(1024), taps=(2, 3, 4), act=act)


MODELS.add(
    ModelSpec(
        name="darknet-ref", summary="Darknet reference network: seven 3x3 convolutions and pools",
        source="WongKinYiu/CrossStagePartialNetworks cfg/darknet.cfg", confidence="confirmed",
        build=_build, family="darknet", input=256, stride=64, min_input=64, axes=(act_axis(),),
        necks=True,
    )
)  # fmt: skip
