"""SNet-49 and SNet-146, the backbones of ThunderNet.

Source: ThunderNet (arXiv 1903.11752): ShuffleNetV2 with 5x5 depthwise convolutions; SNet-49 ends
in a 512-channel 1x1 convolution, SNet-146 does not. The names are nominal MMACs at 224: without the
classifier this definition has 50.7 and 160.6, so the authors' unit differs in a detail.
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
class SNet:
    """Widths of the stages, and of the last convolution (None: there is none)."""

    widths: tuple[int, ...]
    last: int | None = None


UNITS = (4, 8, 4)
STEM = 24


def _build(config: SNet, options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.shuffle import ShuffleDown, ShuffleUnit
    from cspbench.models.staged import Backbone, Stage

    act = str(options["act"])

    def make_blocks(channels: int, count: int) -> Chain:
        return Chain([ShuffleUnit(channels, act) for _ in range(count)], channels)

    stages: list[nn.Module] = []
    channels = STEM
    for index, (width, units) in enumerate(zip(config.widths, UNITS, strict=True)):
        last = config.last if index == len(UNITS) - 1 else None
        stages.append(
            Stage.splittable(
                ShuffleDown(channels, width, act),
                partial(make_blocks, count=units - 1),
                width,
                transition=ConvBnAct(width, last, act=act) if last else None,
                out_channels=last,
                width_multiple=2,
            )
        )
        channels = last or width
    stem = Chain([ConvBnAct(3, STEM, 3, 2, act=act), nn.MaxPool2d(3, 2, 1)], 3)
    return Backbone(stem, stages, Classifier(channels), taps=(0, 1, 2), act=act)


for _name, _config in (
    ("snet49", SNet((60, 120, 240), 512)),
    ("snet146", SNet((132, 264, 528))),
):
    MODELS.add(
        ModelSpec(
            name=_name, summary="ShuffleNetV2 with 5x5 depthwise convolutions",
            source="ThunderNet paper (arXiv 1903.11752)", confidence="open",
            build=partial(_build, _config), family="snet", axes=(act_axis("relu"),), necks=True,
            staged=True, check=csp_check(_config.widths, 2),
        )
    )  # fmt: skip
