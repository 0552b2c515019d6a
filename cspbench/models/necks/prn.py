"""Partial residual heads: two scales (prn) or three (prn-3l).

Source: WongKinYiu/PartialResidualNetworks (cfg/yolov3-tiny-prn.cfg, README counts). Sums of maps of
different width add the overlapping channels, which costs neither parameters nor BFLOPs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import NECKS, NeckSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(scales: int, backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.partial_residual import PrnNeck

    return attach(backbone, partial(PrnNeck, scales=scales, act=str(options["act"])))


NECKS.add(
    NeckSpec(
        name="prn", summary="partial residual head, strides 32 and 16",
        source="WongKinYiu/PartialResidualNetworks", confidence="confirmed",
        build=partial(_build, 2), scales=2, axes=(act_axis(),),
    )
)  # fmt: skip
NECKS.add(
    NeckSpec(
        name="prn-3l", summary="partial residual head, strides 32, 16 and 8",
        source="WongKinYiu/PartialResidualNetworks README; solved from its counts",
        confidence="solved", build=partial(_build, 3), scales=3, axes=(act_axis(),),
    )
)  # fmt: skip
