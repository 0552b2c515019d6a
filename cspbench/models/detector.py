"""A detector: a backbone's features through a neck with heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from torch import Tensor, nn

from cspbench.errors import InputError
from cspbench.models.blocks import ConvBnAct

if TYPE_CHECKING:
    from collections.abc import Callable

#: 3 anchors x (4 box + 1 objectness + 80 COCO classes).
OUTPUTS = 255


class HasFeatures(Protocol):
    """What a network must offer to carry a neck, also a user's network.

    ``feature_channels`` are the channels of C3, C4, C5; ``features`` returns those maps at strides
    8, 16, 32. ``headless`` (optional) drops the layers that only classification uses.
    """

    @property
    def feature_channels(self) -> list[int]: ...

    def features(self, x: Tensor) -> list[Tensor]: ...


class Detector(nn.Module):
    """Backbone, then neck. Output: raw maps (batch, 255, h, w), undecoded, in the neck's order."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self.neck(cast(HasFeatures, self.backbone).features(x))
        return tuple(outputs)


def attach(backbone: nn.Module, make_neck: Callable[[list[int]], nn.Module]) -> Detector:
    """Put the neck that ``make_neck`` builds from (C3, C4, C5) channels on ``backbone``.

    Raises:
        InputError: the network offers no features.
    """
    if not hasattr(backbone, "features") or not hasattr(backbone, "feature_channels"):
        kind = type(backbone).__name__
        raise InputError(f"{kind} has no features(x) and feature_channels, so it takes no neck")
    if hasattr(backbone, "headless"):
        backbone = backbone.headless()  # type: ignore[operator]
    channels = [int(width) for width in backbone.feature_channels]  # type: ignore[union-attr]
    return Detector(backbone, make_neck(channels))


def det(channels: int, outputs: int = OUTPUTS) -> ConvBnAct:
    """The output layer of a head: 1x1, linear, with bias."""
    return ConvBnAct(channels, outputs, bn=False, act="linear")
