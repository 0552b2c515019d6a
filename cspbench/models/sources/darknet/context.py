"""What the section functions share: the place of a section, and options of several sections."""

from __future__ import annotations

from dataclasses import dataclass

from cspbench.core.text import nearest
from cspbench.models.sources.darknet.cfg import Section, shown
from cspbench.models.sources.darknet.ops import ACTIVATIONS, Layer, Op, Shape

#: Bounds of a single number: far above any public network, far below what exhausts a machine.
MAX_CHANNELS = 1 << 17
MAX_KERNEL = 1024


@dataclass(frozen=True)
class LayerDraft:
    """The layer of a section; ``sources`` and ``inner_shape`` are None for the usual ones."""

    op: Op
    out_shape: Shape
    sources: tuple[int, ...] | None = None
    inner_shape: Shape | None = None


@dataclass
class Context:
    """The place of a section: its index, the shape before it, and the layers before it."""

    index: int
    shape: Shape
    layers: list[Layer]

    def resolve(self, section: Section, key: str, reference: int) -> int:
        """Return the absolute index of a reference; negative ones count from this layer."""
        index = self.index + reference if reference < 0 else reference
        if index < 0:
            raise section.fail(
                f"{key}={reference}: layer {self.index} has only {self.index} layers before it",
                key,
            )
        if index >= self.index:
            raise section.fail(
                f"{key}={reference}: layer {self.index} can only read layers before it, "
                f"not layer {index}",
                key,
            )
        return index

    def sources(self, section: Section, key: str) -> tuple[int, ...]:
        """Resolve the references of ``key``; at least one."""
        references = section.integers(key)
        if not references:
            raise section.fail(f"needs {key}=")
        return tuple(self.resolve(section, key, reference) for reference in references)


#: Names that other libraries give to functions of Darknet.
_OTHER_NAMES = {"silu": "swish", "sigmoid": "logistic", "identity": "linear"}


def activation_of(section: Section, default: str) -> str:
    """The activation that a section names; InputError for one that Darknet does not have."""
    name = section.text("activation", default)
    if name not in ACTIVATIONS:
        same = _OTHER_NAMES.get(name)
        hint = f" (Darknet's name is {same!r})" if same else nearest(name, list(ACTIVATIONS))
        raise section.fail(f"unknown activation {shown(name)}{hint}", "activation")
    return name


def choice_of(section: Section, key: str, aliases: dict[str, str]) -> str:
    """The meaning of a word among ``aliases``, ``none`` where the key is missing."""
    value = section.text(key, "none")
    if value not in aliases:
        raise section.fail(f"{key} must be one of {', '.join(aliases)}, not {shown(value)}", key)
    return aliases[value]


def strides_of(section: Section) -> tuple[int, int]:
    """(y, x): ``stride_y``, ``stride_x``, or ``stride`` for both."""
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    return (
        max(section.integer("stride_y", stride, -1, MAX_KERNEL), 0) or stride,
        max(section.integer("stride_x", stride, -1, MAX_KERNEL), 0) or stride,
    )


def blur_of(section: Section) -> int:
    """Side of the anti-aliasing filter: 3, with ``antialiasing=2`` 2."""
    antialiasing = section.integer("antialiasing", 0, 0, 2)
    return (0, 3, 2)[antialiasing]


def sides_after(
    section: Section, shape: Shape, size: int, stride: tuple[int, int], padding: int
) -> tuple[int, int]:
    """Output (height, width) of a window of ``size`` over a map padded by ``padding`` in sum."""
    sides = []
    for side, step in zip(shape[1:], stride, strict=True):
        room = side + padding - size
        if room < 0:
            raise section.fail(
                f"size={size} does not fit the {shape[1]}x{shape[2]} map before it", "size"
            )
        sides.append(room // step + 1)
    return sides[0], sides[1]


def blurred(section: Section, inner: Shape, blur: int, stride: tuple[int, int]) -> Shape:
    """Shape after the anti-aliasing filter: side 3 is padded by one, side 2 is not."""
    if not blur:
        return inner
    return (
        inner[0],
        *sides_after(section, inner, blur, stride, 2 * (blur // 2) if blur == 3 else 0),
    )


def refuse(section: Section, *keys: str) -> None:
    """Refuse options that change the result and that this reader does not follow."""
    for key in keys:
        if section.flag(key):
            raise section.fail(f"{key} is not supported", key)
