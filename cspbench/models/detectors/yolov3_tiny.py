"""YOLOv3-tiny and its partial residual form.

Source: WongKinYiu/PartialResidualNetworks cfg/yolov3-tiny.cfg and cfg/yolov3-tiny-prn.cfg
(5.571 and 3.467 BFLOPs at 416).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(residual: bool, options: Options) -> nn.Module:
    from cspbench.models.blocks import Chain, ConvBnAct, Residual, SamePool
    from cspbench.models.detector import attach
    from cspbench.models.partial_residual import PrnNeck
    from cspbench.models.plain import plain_stages, plain_stem
    from cspbench.models.staged import Backbone, Stage
    from cspbench.models.yolo import TinyNeck

    act = str(options["act"])
    stages = plain_stages((32, 64, 128, 256, 512), act)
    top = 512 if residual else 1024
    blocks: nn.Module = Chain([SamePool(2), ConvBnAct(512, top, 3, act=act)], 512)
    if residual:
        blocks = Residual(blocks, 512, act=act)
    stages.append(Stage(None, blocks, None, base_channels=512, out_channels=top))
    backbone = Backbone(plain_stem(act), stages, None, taps=(2, 3, 5), act=act)
    neck = partial(PrnNeck, act=act) if residual else partial(TinyNeck, act=act)
    return attach(backbone, neck)


def _add(name: str, summary: str, residual: bool) -> None:
    MODELS.add(
        ModelSpec(
            name=name, summary=summary, source=f"WongKinYiu/PartialResidualNetworks cfg/{name}.cfg",
            confidence="confirmed", build=partial(_build, residual), family="yolov3-tiny",
            task="detection", input=416, axes=(act_axis(),),
        )
    )  # fmt: skip


_add("yolov3-tiny", "small two-scale detector", False)
_add("yolov3-tiny-prn", "YOLOv3-tiny with partial residual connections", True)
