"""Cross-stage-partial stages (CSPNet, arXiv 1911.11929, section 3), for any staged network.

A stage's base is split: a share γ of its channels (part 1) bypasses the blocks, the rest (part 2)
goes through them. Three ways to merge:

- ``csp``: blocks, transition t1, concatenation with part 1, transition t2;
- ``first``: blocks, concatenation, t2 (fusion first);
- ``last``: blocks, t1, concatenation (fusion last).

:func:`apply` does this to any network that has ``stages``, an ordered container of modules that
each offer what :class:`Splittable` lists. The split keeps the channels that a stage puts out, so
nothing else in the network changes.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cspbench.errors import InputError
from cspbench.models.blocks import ConvBnAct
from cspbench.models.gamma import part_widths, problem

FUSIONS = ("csp", "first", "last")
SPLITS = ("conv", "slice")


@runtime_checkable
class Splittable(Protocol):
    """The protocol of a stage that can be split, also in a user's model.

    ``entry`` (optional): module from the stage's input to its base; kept whole. ``base_channels``:
    channels of the base. ``out_channels``: channels that the stage puts out. ``make_blocks(c)``
    returns the blocks for a base of ``c`` channels as a module with ``out_channels``, or is None
    where the stage has nothing to split. ``width_multiple`` (optional): ``c`` must be a multiple
    of it. The stage's own ``blocks`` and ``transition`` are replaced.
    """

    base_channels: int
    out_channels: int

    def make_blocks(self, channels: int) -> nn.Module: ...


class Slice(nn.Module):
    """Channels ``start`` to ``stop`` of the input."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop
        self.out_channels = stop - start

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


class CspStage(nn.Module):
    """A cross-stage-partial stage put together from its parts.

    Args:
        entry: from the stage's input to its base, or None.
        part1: what bypasses the blocks, from the whole base; None passes the base itself.
        part2: what enters the blocks, from the whole base; None passes the base itself.
        blocks: the computation, on part 2.
        t1: transition of the blocks' output before the concatenation, or None.
        t2: transition after the concatenation, or None.
        out_channels: channels of the output.
    """

    def __init__(
        self,
        *,
        blocks: nn.Module,
        out_channels: int,
        entry: nn.Module | None = None,
        part1: nn.Module | None = None,
        part2: nn.Module | None = None,
        t1: nn.Module | None = None,
        t2: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.part1 = part1
        self.part2 = part2
        self.blocks = blocks
        self.t1 = t1
        self.t2 = t2
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is not None:
            x = self.entry(x)
        bypass = x if self.part1 is None else self.part1(x)
        x = x if self.part2 is None else self.part2(x)
        x = self.blocks(x)
        if self.t1 is not None:
            x = self.t1(x)
        x = torch.cat([x, bypass], 1)
        return x if self.t2 is None else self.t2(x)


def offers_stages(module: nn.Module) -> bool:
    """Whether a network says itself what its stages are."""
    stages = getattr(module, "stages", None)
    if not isinstance(stages, (nn.ModuleList, nn.Sequential)):
        return False
    return any(isinstance(stage, Splittable) for stage in stages)


def split_stages(module: nn.Module) -> list[int]:
    """Indices of the stages of ``module`` that can be split.

    Raises:
        InputError: the network has no stages, or none that can be split.
    """
    stages = getattr(module, "stages", None)
    kind = type(module).__name__
    if not isinstance(stages, (nn.ModuleList, nn.Sequential)):
        raise InputError(f"{kind} has no 'stages' (nn.ModuleList or nn.Sequential) to split")
    splittable = [
        index
        for index, stage in enumerate(stages)
        if isinstance(stage, Splittable) and stage.make_blocks is not None
    ]
    if not splittable:
        raise InputError(
            f"no stage of {kind} can be split: each needs base_channels, out_channels and "
            "make_blocks(channels)"
        )
    return splittable


def apply(
    module: nn.Module, *, gamma: float = 0.5, fusion: str = "csp", split: str = "conv"
) -> nn.Module:
    """Turn a staged network into its cross-stage-partial form, in place.

    Args:
        module: a network with ``stages`` (see :class:`Splittable`).
        gamma: share of every base that bypasses the blocks, strictly between 0 and 1; γ times the
            channels must be whole in every split stage.
        fusion: ``csp``, ``first`` or ``last``.
        split: ``conv`` (two 1x1 convolutions from the whole base) or ``slice``.

    Returns:
        The network. New layers have their default weights (or are on the meta device where that
        is the default device).

    Raises:
        InputError: nothing to split, an illegal γ, or an unknown fusion or split.
    """
    if fusion not in FUSIONS:
        raise InputError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    chosen = split_stages(module)
    stages: nn.ModuleList = module.stages  # type: ignore[assignment]
    bases = [int(stages[index].base_channels) for index in chosen]  # type: ignore[arg-type]
    multiple = max(int(getattr(stages[index], "width_multiple", 1)) for index in chosen)
    wrong = problem(gamma, bases, multiple)
    if wrong:
        raise InputError(wrong)
    act = str(getattr(module, "activation", "leaky"))
    for index in chosen:
        stages[index] = _split(stages[index], gamma, fusion, split, act)
    return module


def _split(stage: nn.Module, gamma: float, fusion: str, split: str, act: str) -> CspStage:
    base, out = int(stage.base_channels), int(stage.out_channels)  # type: ignore[arg-type]
    bypass, computed = part_widths(base, gamma)
    if split == "slice":
        part1: nn.Module = Slice(0, bypass)
        part2: nn.Module = Slice(bypass, base)
    else:
        part1 = ConvBnAct(base, bypass, act=act)
        part2 = ConvBnAct(base, computed, act=act)
    blocks = stage.make_blocks(computed)  # type: ignore[operator]
    wide = int(blocks.out_channels)
    t1 = t2 = None
    if fusion == "last":
        if out <= bypass:
            raise InputError(
                f"fusion last needs a stage that puts out more than its bypass: {out} <= {bypass}"
            )
        t1 = ConvBnAct(wide, out - bypass, act=act)
    else:
        t1 = ConvBnAct(wide, wide, act=act) if fusion == "csp" else None
        t2 = ConvBnAct(wide + bypass, out, act=act)
    entry = getattr(stage, "entry", None)
    return CspStage(
        blocks=blocks, out_channels=out, entry=entry, part1=part1, part2=part2, t1=t1, t2=t2
    )
