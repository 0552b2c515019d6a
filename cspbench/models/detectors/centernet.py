"""CenterNet on ResNet-18.

Source: Zhou, Wang and Krähenbühl, "Objects as Points" (arXiv 1904.07850): a projected ResNet-18,
three up-convolutions of 256, 128 and 64 channels, each after a 3x3 convolution, and three heads at
stride 4. The paper's 3x3 convolutions there are deformable; here they are ordinary (same weights,
without the offsets), because no exchange format of the backends has the operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(options: Options) -> nn.Module:
    from cspbench.models.centernet import CenterNet

    return CenterNet(str(options["act"]))


MODELS.add(
    ModelSpec(
        name="centernet-resnet18", summary="centres of objects at stride 4, no anchors",
        source='"Objects as Points" (arXiv 1904.07850)', confidence="open", build=_build,
        family="centernet", task="detection", input=512, axes=(act_axis("relu"),),
    )
)  # fmt: skip
