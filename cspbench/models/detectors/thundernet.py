"""ThunderNet: SNet with context enhancement, spatial attention and region proposals.

Source: arXiv 1903.11752. The part after the proposals depends on the data and is left out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _build(backbone: str, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.thunder import ThunderHead

    act = str(options["act"])
    return attach(MODELS.get(backbone).build({"act": act}), partial(ThunderHead, act=act))


for _size in ("49", "146"):
    MODELS.add(
        ModelSpec(
            name=f"thundernet-snet{_size}",
            summary=f"two-stage detector on SNet-{_size}, up to its proposals",
            source="ThunderNet paper (arXiv 1903.11752)", confidence="open",
            build=partial(_build, f"snet{_size}"), family="snet", task="detection", input=320,
            axes=(act_axis("relu"),),
        )
    )  # fmt: skip
