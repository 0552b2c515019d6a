"""Finds the stages of any network, by following one forward pass on shapes.

A stage is a sequence of at least two blocks of equal resolution and width; its first block may
change both. Sequences are looked for in ``nn.Sequential``, ``nn.ModuleList`` and ``nn.ModuleDict``,
outermost first, and in modules without such a sequence that call blocks one after another. Where
blocks form a stage, nothing inside of a block of that kind is one.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.inputs import TensorInput

#: Layers that compute; a child without any belongs to the block before it.
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Stage:
    """A sequence of blocks in a container, by the names of its children there.

    ``entry`` are the children that stay whole: the first block, where it changes resolution or
    width. ``blocks`` are the others; ``parts`` are those of each block. ``shape`` is (batch,
    channels, height, width) of what each block reads and puts out.
    """

    path: str
    entry: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    shape: tuple[int, ...]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Children that are split, in their order."""
        return tuple(name for part in self.parts for name in part)


@dataclass(frozen=True)
class NoStage:
    """A container of blocks that is no stage, and why."""

    path: str
    reason: str


class _Call(NamedTuple):
    """A call of a module: the only tensor that it read, and the only one that it returned."""

    source: Tensor | None
    result: Tensor | None


class _Pass(TorchFunctionMode):
    """What happens in a forward pass: the calls of every module, and who reads each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, list[_Call]] = defaultdict(list)
        #: Tensor -> modules that were running, innermost last, at each operator that reads it.
        self.readers: dict[int, set[tuple[int, ...]]] = defaultdict(set)
        self.results: Any = None
        self._running: list[int] = []
        self._kept: list[Any] = []  # identities of tensors that are gone are given again

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # a shape that is looked at is no reading
            for tensor in _tensors((args, kwargs)):
                self.readers[id(tensor)].add(tuple(self._running))
                self._kept.append(tensor)
        return func(*args, **(kwargs or {}))

    def enter(self, module: nn.Module, _args: Any, _kwargs: Any) -> None:
        """A module begins."""
        self._running.append(id(module))

    def leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """A module ends."""
        self._running.pop()
        self._kept.append((args, kwargs, result))
        self.calls[id(module)].append(_Call(_only((args, kwargs)), _only(result)))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _only(tree: Any) -> Tensor | None:
    tensors = _tensors(tree)
    return tensors[0] if len(tensors) == 1 else None


def _followed(module: nn.Module, inputs: Sequence[TensorInput]) -> _Pass:
    """Run a network on shapes; it must be one that nothing else uses.

    Raises:
        InputError: its forward pass cannot be followed.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    seen, hooks = _Pass(), []
    for child in module.modules():
        hooks.append(child.register_forward_pre_hook(seen.enter, with_kwargs=True))
        hooks.append(child.register_forward_hook(seen.leave, with_kwargs=True))
    first = next(module.parameters(), None)
    device = "cpu" if first is None else first.device
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            examples = [
                torch.zeros(one.sides, dtype=getattr(torch, one.dtype), device=device)
                for one in inputs
            ]
            with seen:
                seen.results = module(*examples)
    except Exception as error:  # the network's own code may raise anything
        raise InputError(
            "its stages cannot be found, because its forward pass cannot be followed on shapes: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@dataclass
class _Block:
    """A child with layers, and those without that follow it."""

    names: list[str]
    module: nn.Module
    source: Tensor
    result: Tensor
    layers: int
    inside: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inside |= {id(one) for one in self.module.modules()}

    @property
    def keeps(self) -> bool:
        return self.source.shape == self.result.shape

    def add(self, name: str, child: nn.Module, result: Any) -> None:
        """A child without layers follows."""
        self.names.append(name)
        self.inside |= {id(one) for one in child.modules()}
        self.result = result


@dataclass
class _Search:
    """Looks for stages in the modules of a network whose forward pass was followed."""

    seen: _Pass
    stages: list[tuple[Stage, list[_Block]]] = field(default_factory=list)
    refused: list[NoStage] = field(default_factory=list)

    def look(self, path: str, module: nn.Module) -> None:
        """Note the stages of a module: a container's own before those inside of its children."""
        runs = list(_runs(list(self._blocks(module))))
        taken: set[str] = set()
        if isinstance(module, _CONTAINERS):
            taken = self._take(path, runs)
            if not taken and (reason := _why_none(module, self.seen)):
                self.refused.append(NoStage(path, reason))
            runs = []
        before = len(self.stages)
        for name, child in module.named_children():
            if name not in taken:
                self.look(f"{path}.{name}" if path else name, child)
        if len(self.stages) == before:  # another module that calls blocks one after another
            self._take(path, [run for run in runs if all(map(_is_composed, run))])

    def _take(self, path: str, runs: Sequence[list[_Block]]) -> set[str]:
        """Note sequences of a module as stages, or why they are none; return their children."""
        for run in runs:
            reason = self._read_elsewhere(run)
            if reason:
                self.refused.append(NoStage(path, reason))
            else:
                self.stages.append((_stage(path, run), run))
        return {name for run in runs for block in run for name in block.names}

    def _blocks(self, container: nn.Module) -> Iterator[_Block | None]:
        """The blocks of a container in their order; None where the sequence breaks."""
        block: _Block | None = None
        for name, child, (source, result) in self._called(container):
            layers = sum(isinstance(one, LAYERS) for one in child.modules())
            maps = source is not None and source.ndim == 4 and getattr(result, "ndim", 0) == 4
            same = block is not None and block.result.shape == getattr(result, "shape", None)
            if maps and same and block is not None and not layers and source is block.result:
                block.add(name, child, result)
                continue
            yield block
            block = None
            if maps and layers:
                assert source is not None, "it is a map"
                assert result is not None, "it is a map"
                block = _Block([name], child, source, result, layers)
            else:
                yield None
        yield block

    def _called(self, container: nn.Module) -> Iterator[tuple[str, nn.Module, _Call]]:
        """The children in their order, each with its call; several names may be one module."""
        children = [
            (name, child) for name, child in container._modules.items() if child is not None
        ]
        before: Counter[int] = Counter()
        names = Counter(id(child) for _, child in children)
        for name, child in children:
            calls = self.seen.calls.get(id(child), [])
            alone = len(calls) == names[id(child)]
            yield name, child, calls[before[id(child)]] if alone else _Call(None, None)
            before[id(child)] += 1

    def _read_elsewhere(self, run: Sequence[_Block]) -> str:
        """Why blocks cannot be replaced: not only the next block reads what one puts out."""
        own = [id(tensor) for tensor in _tensors(self.seen.results)]
        replaced = run if run[0].keeps else run[1:]
        for block, following in itertools.pairwise(replaced):
            inside = block.inside | following.inside  # what works in place reads its own result
            readers = self.seen.readers[id(block.result)]
            if id(block.result) in own or any(inside.isdisjoint(running) for running in readers):
                return f"what {block.names[0]} puts out is also read outside of the next block"
        return ""


def _runs(blocks: Sequence[_Block | None]) -> Iterator[list[_Block]]:
    """The longest sequences that are stages."""
    run: list[_Block] = []
    for block in [*blocks, None]:
        follows = run and block is not None and block.source is run[-1].result
        if follows and block is not None and block.keeps:
            run.append(block)
            continue
        if _is_stage(run):
            yield run
        run = [] if block is None else [block]


def _is_stage(run: Sequence[_Block]) -> bool:
    """At least two blocks, of which two are of one kind."""
    kinds = [kind(block.module) for block in run]
    return len(run) > 1 and len(set(kinds)) < len(kinds)


def _is_composed(block: _Block) -> bool:
    """A block of several layers that is no mere sequence of them."""
    return block.layers > 1 and not isinstance(block.module, _CONTAINERS)


def kind(module: nn.Module) -> Any:
    """What a block is: its class, and of a plain sequence those of its children."""
    if type(module) in _CONTAINERS:
        return type(module), tuple(kind(child) for child in module.children())
    return type(module)


def _stage(path: str, run: Sequence[_Block]) -> Stage:
    whole = [] if run[0].keeps else [run[0]]
    return Stage(
        path=path,
        entry=tuple(name for block in whole for name in block.names),
        parts=tuple(tuple(block.names) for block in run[len(whole) :]),
        shape=tuple(int(side) for side in run[-1].result.shape),
    )


def _why_none(container: nn.Module, seen: _Pass) -> str:
    """Why a container of blocks of one kind is no stage; empty if it has no such blocks."""
    children = list(container.children())
    blocks = [one for one in children if sum(isinstance(m, LAYERS) for m in one.modules()) > 1]
    if len(blocks) < 2 or len(set(map(kind, blocks))) > 1:
        return ""
    calls = [seen.calls.get(id(block), []) for block in blocks]
    if any(len(each) != 1 for each in calls):
        return "its blocks are not called once each"
    pairs = [each[0] for each in calls]
    if any(source is None or result is None for source, result in pairs):
        return "its blocks read or return several values"
    shapes = [tuple(pair.result.shape) for pair in pairs if pair.result is not None]
    if any(len(shape) != 4 for shape in shapes):
        return f"it works on {_shown(shapes[0])}, not on maps (batch, channels, height, width)"
    if len({shape[1:] for shape in shapes}) == len(shapes):
        changing = ", ".join(map(_shown, shapes[:4]))
        return f"the width or the resolution changes at each block: {changing}"
    return "its blocks do not follow one another"


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def find_stages(
    module: nn.Module, inputs: Sequence[TensorInput]
) -> tuple[list[Stage], list[NoStage]]:
    """Stages of a network in their order, and containers of blocks that are none.

    Args:
        module: a network, which stays as it is.
        inputs: what it reads, with definite shapes.

    Raises:
        InputError: its forward pass cannot be followed.
    """
    copied = _copied(module)
    search = _Search(_followed(copied.eval(), inputs))
    search.look("", copied)
    return _outermost(copied, search)


def _copied(module: nn.Module) -> nn.Module:
    """The same network with the same weights, so that nothing which a pass leaves stays in it."""
    weights = {id(one): one for one in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, dict(weights))
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"it cannot be copied: {why}") from error


def _outermost(network: nn.Module, search: _Search) -> tuple[list[Stage], list[NoStage]]:
    """Without what lies inside of blocks, and without single layers beside stages of blocks."""
    blocks = {kind(block.module) for _, run in search.stages for block in run
              if any(block.module.children())}  # fmt: skip
    modules = dict(network.named_modules())

    def inside_a_block(path: str) -> bool:
        steps = path.split(".")
        above = [".".join(steps[:number]) for number in range(1, len(steps) + 1)] if path else []
        return any(kind(modules[one]) in blocks for one in above)

    def holds_stages(path: str) -> bool:
        return any(stage.path.startswith(f"{path}." if path else "") for stage, _ in stages)

    stages = [(stage, run) for stage, run in search.stages if not inside_a_block(stage.path)]
    composed = any(block.layers > 1 for _, run in stages for block in run)
    return (
        [stage for stage, run in stages
         if not composed or any(block.layers > 1 for block in run)],
        [one for one in search.refused
         if not inside_a_block(one.path) and not holds_stages(one.path)],
    )  # fmt: skip
