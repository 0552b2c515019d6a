"""Pelee: PeleeNet with an SSD head.

Source: Robert-JunWang/Pelee feature_extractor.py and train_coco.py (published at 304: 2.58 BFLOPs,
5.98 M, the latter as PyTorch counts): residual prediction blocks on the maps of 19, 10, 5, 3 and 1
pixels; the first is used twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.ssd import SsdNeck

    act = str(options["act"])
    backbone = MODELS.get("peleenet").build({"act": act, "se": False})
    return attach(backbone, lambda channels: SsdNeck(channels, act))


MODELS.add(
    ModelSpec(
        name="pelee-ssd", summary="PeleeNet with residual prediction blocks and an SSD head",
        source="Robert-JunWang/Pelee", confidence="confirmed", build=_build, family="peleenet",
        task="detection", input=304, stride=16, min_input=272, axes=(act_axis("relu"),),
    )
)  # fmt: skip
