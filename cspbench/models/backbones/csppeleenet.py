"""CSPPeleeNet and the reference networks of the CSPNet paper's Table 5.

Source: CSPNet (arXiv 1911.11929). CSPPeleeNet at γ 0.5 was decoded from the paper's Fig. 7 and
reproduces the published ImageNet counts (WongKinYiu/CrossStagePartialNetworks README: 2.83 M /
0.888 BFLOPs). The first stage keeps its 32/32 split at every γ. Fusion last and fusion first drop
the stem's 1x1 convolution of the pooled branch; fusion first does not meet the published count
(0.708 against 0.755 BFLOPs). The reference networks (4.10 M / 1.103 and 2.01 M / 0.897) were picked
out of an enumeration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cspbench.core.options import Axis, Options
from cspbench.models import gamma as gammas
from cspbench.models.spec import MODELS, ModelSpec, act_axis

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CspPelee:
    """Layers and bottleneck widths by stage, and the kernel of the last transition."""

    layers: tuple[int, ...] = (2, 4, 8, 4)
    hidden: tuple[int, ...] = (16, 32, 64, 64)
    last_kernel: int = 1


STEM_CHANNELS = 64
#: Bases of the stages whose split follows γ (the first keeps 32/32).
SPLIT_BASES = (128, 256, 512)
FIRST_GAMMA = 0.5
NOTE = " (the first stage keeps its 32/32 split)"


def _build(config: CspPelee, options: Options) -> nn.Module:
    from torch import nn

    from cspbench.models.blocks import Chain, Classifier, ConvBnAct
    from cspbench.models.csp import CspStage
    from cspbench.models.dense import DenseBlock, PeleeStem, TwoWayLayer
    from cspbench.models.staged import Backbone

    act, se = str(options["act"]), bool(options["se"])
    fusion = str(options.get("fusion", "csp"))
    gamma = float(options.get("gamma", FIRST_GAMMA))
    last = len(config.layers) - 1
    stages: list[nn.Module] = []
    channels = STEM_CHANNELS
    for index, (layers, hidden) in enumerate(zip(config.layers, config.hidden, strict=True)):
        entry: nn.Module | None = None
        if index:
            pool = nn.MaxPool2d(2, 2)
            # The transition after the concatenation runs at the lower resolution.
            mix = [] if fusion == "last" else [ConvBnAct(channels, channels, act=act)]
            entry = Chain([pool, *mix], channels)
        bypass, computed = gammas.part_widths(channels, gamma if index else FIRST_GAMMA)
        blocks = DenseBlock(computed, layers, partial(TwoWayLayer, hidden=hidden, act=act, se=se))
        wide = blocks.out_channels
        out = bypass + wide
        has_t1 = fusion != "first" or index == last
        t2 = ConvBnAct(out, out, config.last_kernel, act=act) if index == last else None
        stages.append(
            CspStage(
                entry=entry,
                part1=ConvBnAct(channels, bypass, act=act),
                part2=ConvBnAct(channels, computed, act=act),
                blocks=blocks,
                t1=ConvBnAct(wide, wide, act=act) if has_t1 else None,
                t2=t2,
                out_channels=out,
            )
        )
        channels = out
    stem = PeleeStem(act, pool_conv=fusion == "csp", fuse=None)
    return Backbone(stem, stages, Classifier(channels), taps=(1, 2, 3), act=act)


def _check(options: Options) -> str | None:
    return gammas.problem(float(options["gamma"]), SPLIT_BASES, note=NOTE)


_SE = Axis("se", False, "flag", summary="squeeze and excitation")

MODELS.add(
    ModelSpec(
        name="csppeleenet", summary="cross-stage-partial PeleeNet, any γ, three fusions",
        source="CSPNet paper Fig. 7 (decoded)", confidence="confirmed",
        build=partial(_build, CspPelee()), family="peleenet", necks=True, check=_check,
        axes=(
            act_axis(),
            Axis("fusion", "csp", "choice", ("csp", "first", "last"), "where the parts merge"),
            Axis("gamma", 0.5, "fraction", summary="share of the base that bypasses the blocks"),
            _SE,
        ),
    )
)  # fmt: skip
for _name, _kernel in (("csppeleenet-ref", 3), ("csppeleenetb-ref", 1)):
    MODELS.add(
        ModelSpec(
            name=_name,
            summary=f"reference network of Table 5, last transition {_kernel}x{_kernel}",
            source="CSPNet README counts; last layer solved, the rest searched (119 hits)",
            confidence="searched",
            build=partial(_build, CspPelee((2, 4, 4, 4), (32, 64, 64, 64), _kernel)),
            family="peleenet", axes=(act_axis(), _SE), necks=True,
        )
    )  # fmt: skip
