"""Fusion models of the CSPNet paper: gfm, efm, efm-spp, efm-sam; ThunderNet's cem-sam.

Sources: CSPNet (arXiv 1911.11929) Fig. 7 for efm (sum of the head 1.81 +- 0.02 BFLOPs at 416, no
layer above 0.1994); HYK-baby/Edge-computing for efm-sam's total (3.43 BFLOPs at 320); ThunderNet
(arXiv 1903.11752) for cem-sam. Where SPP and SAM sit is not public.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Options
from cspbench.models.spec import NECKS, NeckSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


def _efm(spp: bool, sam: bool, backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.fusion import EfmNeck

    return attach(backbone, partial(EfmNeck, act=str(options["act"]), spp=spp, sam=sam))


def _gfm(backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.fusion import GfmNeck

    return attach(backbone, partial(GfmNeck, act=str(options["act"])))


def _cem_sam(backbone: nn.Module, options: Options) -> nn.Module:
    from cspbench.models.detector import attach
    from cspbench.models.thunder import CemSamNeck

    return attach(backbone, partial(CemSamNeck, act=str(options["act"])))


_FIG7 = "CSPNet paper Fig. 7, its middle layers searched"
_ACT = (act_axis(),)
_NECKS = (
    NeckSpec(
        "efm", "exact fusion model, three scales", _FIG7, "searched",
        partial(_efm, False, False), axes=_ACT,
    ),
    NeckSpec(
        "efm-spp", "exact fusion model with spatial pyramid pooling",
        "efm; place of the pools unknown", "open", partial(_efm, True, False), axes=_ACT,
    ),
    NeckSpec(
        "efm-sam", "exact fusion model with spatial attention",
        "efm; place of the attention unknown", "open", partial(_efm, False, True), axes=_ACT,
    ),
    NeckSpec(
        "gfm", "global fusion model, three scales", "CSPNet paper Fig. 6; working definition",
        "open", _gfm, axes=_ACT,
    ),
    NeckSpec(
        "cem-sam", "context enhancement and spatial attention, stride 16",
        "ThunderNet paper (arXiv 1903.11752); head is a working definition", "open", _cem_sam,
        scales=2, axes=_ACT,
    ),
)  # fmt: skip
for _neck in _NECKS:
    NECKS.add(_neck)
