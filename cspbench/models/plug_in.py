"""The cross-stage-partial form of any network: CSP as a plug-in, which is what the paper proposes.

Each stage that is found (`cspbench.models.stage_search`) gets a split, its blocks rebuilt at the
width of the part that they compute on (`cspbench.models.narrowing`), and the transitions of the
fusion (`cspbench.models.csp`). The first block of a stage stays whole where it changes resolution
or width. What the stage reads and puts out keeps its shape, so nothing else changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cspbench.core.text import number_of
from cspbench.errors import InputError
from cspbench.models.csp import FUSIONS, SPLITS, CspStage, Slice
from cspbench.models.gamma import part_widths, problem
from cspbench.models.inputs import TensorInput
from cspbench.models.narrowing import CannotNarrow, narrowed
from cspbench.models.stage_search import Stage, find_stages

#: Attribute of a network that the transform changed: a sentence for each of its stages.
NOTES = "csp_notes"
#: Activations that the transitions take from the blocks beside them.
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Mish, nn.GELU, nn.Hardswish, nn.ELU, nn.CELU,
    nn.SELU, nn.Softplus, nn.Hardtanh,
)  # fmt: skip
#: The same by name, for libraries that have classes of their own.
_NAMED: Mapping[str, type[nn.Module]] = {one.__name__.lower(): one for one in _ACTIVATIONS} | {
    "swish": nn.SiLU
}


@dataclass(frozen=True)
class _Parts:
    """What the transform does to all stages of a network."""

    gamma: float
    fusion: str
    split: str


def apply(
    module: nn.Module, inputs: Sequence[TensorInput], *, gamma: float = 0.5, fusion: str = "csp",
    split: str = "conv",
) -> nn.Module:  # fmt: skip
    """Turn a network into its cross-stage-partial form, in place.

    Args:
        module: any network; nothing else may hold it.
        inputs: what it reads, with definite shapes.
        gamma: share of a base's channels that bypasses the blocks.
        fusion: ``csp``, ``first`` or ``last``.
        split: ``conv`` or ``slice``.

    Returns:
        The network, which says in ``csp_notes`` what became of each stage. New layers have weights
        of their own, rebuilt blocks the first channels of the network's.

    Raises:
        InputError: it has no stage that can be split, with the reasons.
    """
    assert fusion in FUSIONS, "options are checked before"
    assert split in SPLITS, "options are checked before"
    stages, others = find_stages(module, inputs)
    parts = _Parts(gamma, fusion, split)
    notes, refusals = [], []
    for stage in stages:
        try:
            notes.append(_replace(module, stage, parts))
        except CannotNarrow as error:
            refusals.append(f"{_name(stage)} stays as it is: {error}")
    refusals += [f"{one.path or 'the network'} stays as it is: {one.reason}" for one in others]
    if not notes:
        why = "; ".join(refusals[:4]) or (
            "it has no sequence of at least two blocks of equal resolution and width"
        )
        more = f"; and {len(refusals) - 4} more" if len(refusals) > 4 else ""
        raise InputError(f"no stage of {type(module).__name__} can be split: {why}{more}")
    setattr(module, NOTES, (*notes, *refusals))
    return module


def notes_of(module: object) -> tuple[str, ...]:
    """What the transform did to a network, a sentence for each stage; empty without it."""
    body = module if hasattr(module, NOTES) else getattr(module, "backbone", None)  # with a neck
    notes: tuple[str, ...] = getattr(body, NOTES, ())
    return notes


def _name(stage: Stage) -> str:
    """The children of a stage: ``layer1.0 to 2``."""
    children = (*stage.entry, *stage.blocks)
    return f"{stage.path + '.' if stage.path else ''}{children[0]} to {children[-1]}"


def _replace(module: nn.Module, stage: Stage, parts: _Parts) -> str:
    """Split a stage and say so.

    Raises:
        CannotNarrow: γ or a block does not fit its width.
    """
    container = module.get_submodule(stage.path)
    width = stage.shape[1]
    wrong = problem(parts.gamma, [width])
    if wrong:
        raise CannotNarrow(wrong)
    bypass, computed = part_widths(width, parts.gamma)
    children = {name: child for name, child in container._modules.items() if child is not None}
    blocks = [_together([children[name] for name in part]) for part in stage.parts]
    rebuilt = narrowed(blocks, stage.shape, computed)
    first, *rest = stage.blocks
    new = _stage(rebuilt, blocks, width, parts)
    container._modules[first] = new.train(container.training)
    for name in rest:  # it is not known how the container is walked, so it keeps its length
        container._modules[name] = nn.Identity()
    entry = f"{stage.entry[0]} stays whole, " if stage.entry else ""
    height, across = stage.shape[2:]
    return (
        f"{_name(stage)}: {entry}{number_of(len(blocks), 'block')} on {computed} "
        f"of {width} channels at {height}x{across}, {bypass} bypass"
    )


def _together(children: list[nn.Module]) -> nn.Module:
    return children[0] if len(children) == 1 else nn.Sequential(*children)


def _stage(rebuilt: nn.Module, blocks: Sequence[nn.Module], width: int, parts: _Parts) -> CspStage:
    bypass, computed = part_widths(width, parts.gamma)
    act = _activation(blocks)
    weight = next((p for block in blocks for p in block.parameters()), None)
    with torch.device("meta"):  # seeded weights come later
        part1: nn.Module = Slice(0, bypass)
        part2: nn.Module = Slice(bypass, width)
        if parts.split == "conv":
            part1, part2 = _pointwise(width, bypass, act), _pointwise(width, computed, act)
        t1 = None if parts.fusion == "first" else _pointwise(computed, computed, act)
        t2 = None if parts.fusion == "last" else _pointwise(width, width, act)
    new = CspStage(blocks=rebuilt, out_channels=width, part1=part1, part2=part2, t1=t1, t2=t2)
    if weight is not None and weight.is_floating_point():
        new.to(weight.dtype)
    return new


def _pointwise(channels: int, out: int, act: nn.Module) -> nn.Module:
    """A 1x1 convolution with batch normalisation and the activation of the blocks."""
    conv = nn.Conv2d(channels, out, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), copy.deepcopy(act))


def _activation(blocks: Sequence[nn.Module]) -> nn.Module:
    """The activation that blocks use most; ReLU where none is known."""
    known = [made for block in blocks for one in block.modules() if (made := _known(one))]
    if known:
        names = [repr(one) for one in known]
        return max(known, key=lambda one: names.count(repr(one)))
    return nn.ReLU(inplace=True)


def _known(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _ACTIVATIONS):
        return module
    named = _NAMED.get(type(module).__name__.lower())
    return named() if named is not None else None
