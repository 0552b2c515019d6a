"""ThunderNet's context enhancement, spatial attention and region proposal (arXiv 1903.11752)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cspbench.models.blocks import ConvBnAct, upsample
from cspbench.models.detector import det

#: 5 x 7 x 7: what position-sensitive pooling needs.
CONTEXT = 245
RPN = 256
#: Five scales x five aspect ratios.
ANCHORS = 25


class ContextEnhancement(nn.Module):
    """C4, upsampled C5 and the globally averaged C5, each by 1x1 to 245 channels, summed."""

    def __init__(self, c4: int, c5: int) -> None:
        super().__init__()
        self.near = ConvBnAct(c4, CONTEXT, bn=False, act="linear")
        self.far = ConvBnAct(c5, CONTEXT, bn=False, act="linear")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.world = ConvBnAct(c5, CONTEXT, bn=False, act="linear")

    def forward(self, c4: Tensor, c5: Tensor) -> Tensor:
        local: Tensor = self.near(c4) + upsample(self.far(c5))
        # OpenCV 5 cannot fuse a sum that broadcasts, so the global part is expanded first.
        size = (-1, -1, int(local.shape[2]), int(local.shape[3]))
        world: Tensor = self.world(self.pool(c5))
        return local + world.expand(size)


class RegionFeatures(nn.Module):
    """Context, region features (5x5 depthwise, 1x1 to 256), and the context that they reweight.

    Returns the region features and the attended context.
    """

    def __init__(self, c4: int, c5: int, act: str) -> None:
        super().__init__()
        self.context = ContextEnhancement(c4, c5)
        self.depthwise = ConvBnAct(CONTEXT, CONTEXT, 5, groups=CONTEXT, act=act)
        self.point = ConvBnAct(CONTEXT, RPN, act=act)
        self.attention = ConvBnAct(RPN, CONTEXT, act="logistic")

    def forward(self, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context(c4, c5)
        region = self.point(self.depthwise(context))
        return region, context * self.attention(region)


class CemSamNeck(nn.Module):
    """The attended context with a one-scale head. Output: stride 16."""

    def __init__(self, channels: Sequence[int], act: str = "leaky") -> None:
        super().__init__()
        _, c4, c5 = channels
        self.region = RegionFeatures(c4, c5, act)
        self.det = det(CONTEXT)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, c4, c5 = features
        _, attended = self.region(c4, c5)
        return [self.det(attended)]


class ThunderHead(nn.Module):
    """Region proposals of ThunderNet, and the map that its detection head pools from.

    Outputs at stride 16: objectness (25), box deltas (100), attended context (245). What follows
    (proposals, position-sensitive pooling, one 1024-wide layer a proposal) depends on the data and
    is not part of the network here.
    """

    def __init__(self, channels: Sequence[int], act: str = "relu") -> None:
        super().__init__()
        _, c4, c5 = channels
        self.region = RegionFeatures(c4, c5, act)
        self.objectness = det(RPN, ANCHORS)
        self.deltas = det(RPN, 4 * ANCHORS)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, c4, c5 = features
        region, attended = self.region(c4, c5)
        return [self.objectness(region), self.deltas(region), attended]
