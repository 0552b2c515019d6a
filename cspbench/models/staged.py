"""What a backbone is: a stem, stages, and a classifier.

A stage is entry, blocks, transition. The entry changes resolution or width (a pool, a strided
convolution, a strided first block); its output is the stage's *base*. The blocks compute at that
resolution; the transition mixes what they put out. Detectors read the output of a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from cspbench.models.blocks import Chain, Classifier, ConvBnAct


class Stage(nn.Module):
    """Entry, blocks, transition; entry and transition may be missing.

    Args:
        entry: from the stage's input to its base, or None where they are the same.
        blocks: computation at the stage's resolution.
        transition: what follows the blocks at the same resolution, or None.
        base_channels: channels of the base.
        out_channels: channels of the output.
        make_blocks: builds the blocks for a base of another width (the result has
            ``out_channels``); None where the stage has nothing to split.
        width_multiple: the width that ``make_blocks`` takes must be a multiple of this.
    """

    def __init__(
        self,
        entry: nn.Module | None,
        blocks: nn.Module,
        transition: nn.Module | None,
        *,
        base_channels: int,
        out_channels: int,
        make_blocks: Callable[[int], nn.Module] | None = None,
        width_multiple: int = 1,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.blocks = blocks
        self.transition = transition
        self.base_channels = base_channels
        self.out_channels = out_channels
        self.make_blocks = make_blocks
        self.width_multiple = width_multiple

    @classmethod
    def splittable(
        cls,
        entry: nn.Module | None,
        make_blocks: Callable[[int], nn.Module],
        base_channels: int,
        *,
        transition: nn.Module | None = None,
        out_channels: int | None = None,
        width_multiple: int = 1,
    ) -> Stage:
        """A stage whose blocks, on the whole base, are those of ``make_blocks``."""
        blocks = make_blocks(base_channels)
        return cls(
            entry,
            blocks,
            transition,
            base_channels=base_channels,
            out_channels=out_channels or int(blocks.out_channels),  # type: ignore[arg-type]
            make_blocks=make_blocks,
            width_multiple=width_multiple,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is not None:
            x = self.entry(x)
        x = self.blocks(x)
        return x if self.transition is None else self.transition(x)


class Backbone(nn.Module):
    """A classification network whose stages can feed a detector.

    Args:
        stem: from the image to the first stage.
        stages: in order; each has ``out_channels``.
        classifier: from the last stage (or from ``tail``) to (batch, 1000); None in a detector.
        taps: indices of the stages that put out C3, C4, C5, at strides 8, 16 and 32.
        tail: layers between the last stage and the classifier that no detector uses.
        act: activation that parts added later should use.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        classifier: Classifier | None,
        *,
        taps: tuple[int, int, int],
        tail: nn.Module | None = None,
        act: str = "leaky",
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.tail = tail
        self.classifier: nn.Module | None = classifier
        self.taps = taps
        self.activation = act

    @property
    def feature_channels(self) -> list[int]:
        """Channels of C3, C4, C5."""
        return [int(self.stages[tap].out_channels) for tap in self.taps]  # type: ignore[arg-type]

    def features(self, x: Tensor) -> list[Tensor]:
        """C3, C4, C5: what a detector reads, at strides 8, 16 and 32."""
        maps: list[Tensor] = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages[: self.taps[-1] + 1]):
            x = stage(x)
            if index in self.taps:
                maps.append(x)
        return maps

    def headless(self) -> Backbone:
        """Drop the layers that only classification uses; returns itself."""
        self.tail = None
        self.classifier = None
        self.stages = self.stages[: self.taps[-1] + 1]
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        if self.tail is not None:
            x = self.tail(x)
        return x if self.classifier is None else self.classifier(x)


def resnet_stem(act: str) -> nn.Module:
    """7x7/2 to 64 channels, then a 2x2 max-pool, as Darknet's ResNets start."""
    return Chain([ConvBnAct(3, 64, 7, 2, act=act), nn.MaxPool2d(2, 2)], 3)
