"""Light specs of models, necks and sources: what can be listed and planned without torch.

A file under ``backbones/``, ``detectors/``, ``necks/`` or ``sources/`` registers a spec on import
and imports torch only inside its build function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cspbench.core.options import Axis, Options
from cspbench.core.registry import Registry
from cspbench.models.inputs import IMAGE, Size, TensorInput

if TYPE_CHECKING:
    from torch import nn

Confidence = Literal["confirmed", "solved", "searched", "open", "own"]
Task = Literal["classification", "detection"]

#: How certain it is that a definition is the authors' own; shown in every list of models.
CONFIDENCE: dict[Confidence, str] = {
    "confirmed": "fixed by a public definition, or by figure data independent of the counts",
    "solved": "solved from the published numbers with one or two hypotheses, and it closes",
    "searched": "picked out of an enumeration because it meets the published numbers",
    "open": "does not meet the published numbers, or there are none to meet",
    "own": "the definition is the file, the code or the library itself; nothing is compared",
}

#: Activations that a network's ``act`` option can choose.
ACTIVATIONS = ("leaky", "relu", "relu6", "swish", "mish")


def act_axis(default: str = "leaky") -> Axis:
    """The ``act`` option: the activation of every layer that has the network's own one."""
    return Axis("act", default, "choice", ACTIVATIONS, "activation")


#: Axes that every staged backbone has: its cross-stage-partial form (cspbench.models.csp).
CSP_AXES: tuple[Axis, ...] = (
    Axis("csp.fusion", "none", "choice", ("none", "csp", "first", "last"), "where the parts merge"),
    Axis("csp.gamma", 0.5, "fraction", summary="share of the base that bypasses the blocks"),
    Axis("csp.split", "conv", "choice", ("conv", "slice"), "two 1x1 convolutions, or a slice"),
)


@dataclass(frozen=True)
class ModelSpec:
    """A network by name.

    ``input`` is the published input side, or its (height, width); None where a file leaves it open.
    ``stride`` is what an input side must be a multiple of, unless it is the model's own;
    ``min_input`` is the smallest legal side. ``fixed`` are the height and width where only one
    value is legal, ``batch`` is the only batch size if there is one, ``inputs`` is what the model
    reads. ``necks`` says that it offers detection features.
    ``staged`` says that it has stages, or that they can be looked for, so ``csp.*`` options apply.
    ``check`` says in one sentence what is wrong with a resolved combination of options, or returns
    None; it must be as light as the spec.
    """

    name: str
    summary: str
    source: str
    confidence: Confidence
    build: Callable[[Options], nn.Module] = field(compare=False)
    family: str = ""
    task: Task = "classification"
    input: int | Size | None = 224
    stride: int = 32
    min_input: int = 64
    fixed: tuple[int | None, int | None] = (None, None)
    batch: int | None = None
    inputs: tuple[TensorInput, ...] = (IMAGE,)
    axes: tuple[Axis, ...] = ()
    necks: bool = False
    staged: bool = False
    check: Callable[[Options], str | None] | None = field(default=None, compare=False)

    @property
    def size(self) -> Size | None:
        """The model's own (height, width); None where a file leaves one of them open."""
        return (self.input, self.input) if isinstance(self.input, int) else self.input

    @property
    def open_size(self) -> str:
        """What to do about a size that the model's file leaves open, in a sentence."""
        sides = [
            name for name, side in zip(("height", "width"), self.fixed, strict=True) if side is None
        ]
        size = "x".join(
            str(side or example) for side, example in zip(self.fixed, (384, 640), strict=True)
        )
        return (
            f"the {' and the '.join(sides)} of its input {'are' if len(sides) > 1 else 'is'} open: "
            f"write the size (height x width) behind the model, @{size}, or give --input {size}"
        )

    @property
    def all_axes(self) -> tuple[Axis, ...]:
        """Own axes and, on a staged model, the cross-stage-partial ones."""
        return self.axes + (CSP_AXES if self.staged else ())


@dataclass(frozen=True)
class NeckSpec:
    """A neck with its heads: what makes a detector of a backbone.

    ``build(backbone, options)`` returns the whole detector; ``scales`` is the number of feature
    maps that it reads (2 or 3, coarsest last).
    """

    name: str
    summary: str
    source: str
    confidence: Confidence
    build: Callable[[nn.Module, Options], nn.Module] = field(compare=False)
    scales: int = 3
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class SourceSpec:
    """A source of models from outside cspbench: ``name:target`` in a suite (``darknet:a.cfg``).

    ``spec(target)`` describes the target without torch (input side, stride, axes, whether necks
    apply); ``build(target, options)`` returns the module. Parameters that ``build`` leaves on the
    meta device get seeded weights, those that it loaded stay. Both raise InputError for a target
    that cannot be read. ``runs_code`` marks sources that need ``--allow-code``
    (``cspbench.models.code``).

    ``files(target, options)`` are the files that define the model, so that a changed file is
    another model; ``available()`` is None or why this machine lacks the source; ``artifact`` is
    the artifact kind of the only file, where backends load it as it is and no module is built.
    ``libraries`` are distributions whose version changes what a target is.
    ``endings`` are those of its files (small letters), by which a path alone is a model of it;
    ``member`` says that a target goes on with the name of something in the file
    (``net.py:network``).
    """

    name: str
    summary: str
    spec: Callable[[str], ModelSpec] = field(compare=False)
    build: Callable[[str, Options], nn.Module] = field(compare=False)
    axes: tuple[Axis, ...] = ()
    runs_code: bool = False
    files: Callable[[str, Options], tuple[Path, ...]] = field(
        default=lambda _target, _options: (), compare=False
    )
    available: Callable[[], str | None] = field(default=lambda: None, compare=False)
    artifact: str | None = None
    libraries: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    member: bool = False


MODELS: Registry[ModelSpec] = Registry(
    "model", ("cspbench.models.backbones", "cspbench.models.detectors"), "cspbench.models"
)
NECKS: Registry[NeckSpec] = Registry("neck", ("cspbench.models.necks",), "cspbench.necks")
SOURCES: Registry[SourceSpec] = Registry("source", ("cspbench.models.sources",), "cspbench.sources")
