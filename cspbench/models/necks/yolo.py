"""Necks of the YOLOv3 kind: yolov3, fpn, panet, panet-spp.

Sources: the heads of WongKinYiu/PartialResidualNetworks README (yolov3 and fpn, two scales; yolov3
was read off the CSPNet paper's Fig. 7, fpn solved from its two counts) and cs*-panet-spp.cfg of
WongKinYiu/CrossStagePartialNetworks. PANet is public for C5 of 1024 and 2048 channels; below, its
widths are scaled with C5.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import NECKS, NeckSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _two_scales(wide_det: bool, backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.yolo import TwoScaleNeck

    return attach(backbone, partial(TwoScaleNeck, act=str(options["act"]), wide_det=wide_det))


def _panet(spp: bool, backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.yolo import PanNeck

    return attach(backbone, partial(PanNeck, act=str(options["act"]), spp=spp))


_PRN = "WongKinYiu/PartialResidualNetworks README"
_CSP = "WongKinYiu/CrossStagePartialNetworks cfg/cs*-panet-spp.cfg"
_ACT = (act_axis(),)
_NECKS = (
    NeckSpec(
        "yolov3", "concatenating head, strides 32 and 16",
        f"{_PRN}; Fig. 7 of the CSPNet paper", "confirmed", partial(_two_scales, True),
        scales=2, axes=_ACT,
    ),
    NeckSpec(
        "fpn", "concatenating head with a narrow output, strides 32 and 16",
        f"{_PRN}; solved from its counts", "solved", partial(_two_scales, False),
        scales=2, axes=_ACT,
    ),
    NeckSpec(
        "panet", "top-down and bottom-up paths, three scales", f"{_CSP} without its pools",
        "open", partial(_panet, False), axes=_ACT,
    ),
    NeckSpec(
        "panet-spp", "PANet with spatial pyramid pooling",
        f"{_CSP} (C5 of 1024 or 2048; scaled below)", "confirmed", partial(_panet, True),
        axes=_ACT,
    ),
)  # fmt: skip
for _neck in _NECKS:
    NECKS.add(_neck)
