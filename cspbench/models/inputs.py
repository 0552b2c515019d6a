"""What a model reads: its inputs by name, shape and type, and which axes a case decides.

An axis of a shape is a number, or a letter where the case decides: N the batch, H and W the height
and width of the image. Files state numbers, names or nothing; what an axis is for follows from the
rank, from which axis can be colours (`layout`), and from other axes of the same name. Any other
open axis keeps its name between question marks: a file of inputs decides it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cspbench.errors import InputError

#: Types of inputs for which values can be made, by numpy's names.
DTYPES = (
    "float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32",
    "uint64", "int64", "bool",
)  # fmt: skip
#: Largest side of an image, and of anything else, such as a sound.
MAX_SIDE = 1 << 14
MAX_LENGTH = 1 << 24
#: Bounds of what a file may ask for.
MAX_INPUTS = 64
MAX_ELEMENTS = 3 * MAX_SIDE**2
#: Sizes of an axis that can be colours: grey, RGB, RGB with transparency.
_COLOURS = (1, 3, 4)

Size = tuple[int, int]


@dataclass(frozen=True)
class TensorInput:
    """One input; ``shape`` holds numbers, letters of axes that a case decides, and open axes."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"

    def at(self, batch: int, size: Size) -> TensorInput:
        """The same input with the axes of a case."""
        sides = {"N": batch, "H": size[0], "W": size[1]}
        return replace(self, shape=tuple(sides.get(axis, axis) for axis in self.shape))  # type: ignore[arg-type]

    @property
    def open_axis(self) -> str | None:
        """The first axis that no case decides, in words; None without one."""
        for position, side in enumerate(self.shape):
            if isinstance(side, str) and side.startswith("?"):
                name = side.strip("?")
                label = f" ({name})" if name else ""
                return f"axis {position}{label} of its input {self.name!r}"
        return None

    def closed(self, shape: Sequence[int]) -> TensorInput:
        """The same input with its open axes as long as those of ``shape``."""
        sides = zip(self.shape, shape, strict=True)
        return replace(
            self,
            shape=tuple(
                given if isinstance(own, str) and own.startswith("?") else own
                for own, given in sides
            ),
        )

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape of an input whose axes are all numbers."""
        assert all(isinstance(side, int) for side in self.shape), f"{self.name} has open axes"
        return tuple(int(side) for side in self.shape)


#: The input of a network for images: (batch, 3, height, width), float32.
IMAGE = TensorInput("input", ("N", 3, "H", "W"))


@dataclass(frozen=True)
class StatedInput:
    """An input as a file states it: axes that it leaves open are None, or text if it names them."""

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """All inputs of a model, and what a case can decide.

    ``size`` is the own height and width, None where one is open; ``fixed`` are the sides that have
    one legal value; ``batch`` is the only batch size, or None.
    """

    inputs: tuple[TensorInput, ...]
    size: Size | None
    fixed: tuple[int | None, int | None]
    batch: int | None


def signature(where: object, stated: Sequence[StatedInput]) -> Signature:
    """Say which axes of a file's inputs a case decides.

    Args:
        where: the file, for messages.
        stated: its inputs in order.

    Raises:
        InputError: it has no input, one of a type that cannot be made, or a side that is out of
            range.
    """
    if not 1 <= len(stated) <= MAX_INPUTS:
        raise InputError(f"{where}: has {len(stated) or 'no'} inputs; 1 to {MAX_INPUTS} are read")
    image = max(stated, key=lambda one: min(len(one.shape), 4))  # the first of the highest rank
    roles = layout(image.shape)
    height, width = (_fixed(image.shape, roles, letter) if letter in roles else 1
                     for letter in "HW")  # fmt: skip
    for one in stated:
        _check(where, one)
    most = MAX_SIDE if len(image.shape) >= 4 else MAX_LENGTH
    for side in (height, width):
        if side is not None and not 1 <= side <= most:
            raise InputError(
                f"{where}: its input is {_shown(image.shape)}; only sides of 1 to {most} are "
                "measured"
            )
    letters = _named_letters(stated, len(image.shape))
    inputs = tuple(_with_letters(one, len(image.shape), letters) for one in stated)
    free = any("N" in one.shape for one in inputs)
    batch = None if free else _fixed(image.shape, roles, "N") or 1
    size = None if height is None or width is None else (height, width)
    return Signature(inputs, size, (height, width), batch)


def _check(where: object, one: StatedInput) -> None:
    if one.dtype not in DTYPES:
        raise InputError(
            f"{where}: its input {one.name!r} has the type {one.dtype}; values can be made for "
            f"{', '.join(DTYPES)}"
        )
    sides = [side for side in one.shape if isinstance(side, int)]
    if min(sides, default=1) < 1 or math.prod(sides) > MAX_ELEMENTS:
        raise InputError(f"{where}: its input {one.name!r} has the size {_shown(one.shape)}")


def layout(shape: Sequence[int | str | None]) -> str:
    """What each axis is for: N batch, C channels, H height, W width, D anything else.

    >>> layout((1, 3, 224, 224)), layout((None, 224, 224, 3)), layout((1, 128))
    ('NCHW', 'NHWC', 'NW')
    """
    rank = len(shape)
    if rank == 4:
        last = shape[1] not in _COLOURS and shape[3] in _COLOURS
        return "NHWC" if last else "NCHW"
    if rank == 3:
        if shape[0] in (3, 4) or (shape[0] == 1 and shape[2] not in (3, 4)):
            return "CHW"
        return "HWC" if shape[2] in _COLOURS and isinstance(shape[0], int) else "NHW"
    if rank > 4:
        return f"NC{'D' * (rank - 4)}HW"
    return ("", "W", "NW")[rank]


def _fixed(shape: Sequence[int | str | None], roles: str, letter: str) -> int | None:
    """The number of the axis with a role; None if it is open, or if there is none."""
    at = roles.find(letter)
    side = shape[at] if at >= 0 else None
    return side if isinstance(side, int) else None


def _named_letters(stated: Sequence[StatedInput], image_rank: int) -> dict[str, str]:
    """The letters of named axes: an axis is what another of its name is, in whatever input."""
    letters: dict[str, str] = {}
    for one in stated:
        for side, role in zip(one.shape, layout(one.shape), strict=True):
            if isinstance(side, str) and side and _decided(one, role, image_rank):
                letters.setdefault(side, role)
    return letters


def _decided(one: StatedInput, role: str, image_rank: int) -> bool:
    """Whether a case decides an open axis; small inputs beside an image have no sides."""
    return role == "N" or (role in "HW" and len(one.shape) > min(2, image_rank - 1))


def _with_letters(one: StatedInput, image_rank: int, letters: Mapping[str, str]) -> TensorInput:
    """The input with a letter, or its name between question marks, for each open axis."""
    shape: list[int | str] = []
    for side, role in zip(one.shape, layout(one.shape), strict=True):
        if isinstance(side, int):
            shape.append(side)
        elif _decided(one, role, image_rank):
            shape.append(role)
        elif side is not None and side in letters:
            shape.append(letters[side])
        else:
            shape.append(3 if role == "C" else f"?{side or ''}?")
    return TensorInput(one.name, tuple(shape), one.dtype)


def _shown(shape: Sequence[int | str | None]) -> str:
    return "x".join(str(side) if isinstance(side, int) else "?" for side in shape)
