"""Where two networks can be exchanged part by part, and the hybrids on the way from A to B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, Ref
from cspbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Neighbouring parts that are exchanged together; ``numbers`` count stem, stages, head."""

    label: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Ladder:
    """The parts of two networks, and why some of them go together (``notes``)."""

    a: str
    b: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]

    def hybrid(self, taken: set[int]) -> str:
        """The id of A with the parts of these numbers from B."""
        numbers = {number for part in taken for number in self.parts[part].numbers}
        count = sum(len(part.numbers) for part in self.parts)
        digits = "".join("1" if number in numbers else "0" for number in range(count))
        return str(Ref.of(f"hybrid:{self.a};{self.b};{digits}"))

    @property
    def forward(self) -> list[str]:
        """From A to B, the first parts first; both ends included."""
        return self._rungs(list(range(len(self.parts))))

    @property
    def backward(self) -> list[str]:
        """From A to B, the last parts first; both ends included."""
        return self._rungs(list(reversed(range(len(self.parts)))))

    def _rungs(self, order: list[int]) -> list[str]:
        between = [self.hybrid(set(order[:count])) for count in range(1, len(order))]
        return [self.a, *between, self.b]


def ladder_between(a: str, b: str, size: tuple[int, int]) -> Ladder:
    """Compare the maps at the borders of two networks for an input of ``size``.

    Raises:
        InputError: a network has no stages, the numbers of stages differ, or no border between the
            parts has equal maps.
    """
    first, second = _borders(a, size), _borders(b, size)
    if len(first) != len(second):
        raise InputError(
            f"{a} has {len(first) - 1} stages and {b} {len(second) - 1}: no part can be exchanged"
        )
    labels = ["stem", *(f"stages.{number}" for number in range(len(first) - 1)), "head"]
    parts: list[Part] = []
    notes: list[str] = []
    open_numbers: list[int] = []
    for number, label in enumerate(labels):
        open_numbers.append(number)
        if number < len(first) and first[number] != second[number]:
            notes.append(
                f"Behind {label} A has {_text(first[number])} and B {_text(second[number])}: "
                f"{label} goes together with {labels[number + 1]}."
            )
            continue
        parts.append(Part(" and ".join(labels[n] for n in open_numbers), tuple(open_numbers)))
        open_numbers = []
    if len(parts) < 2:
        raise InputError(f"no border of {a} and {b} has equal maps: {' '.join(notes)}")
    return Ladder(a, b, tuple(parts), tuple(notes))


def _text(shape: Shape) -> str:
    return f"{shape[1]} channels at {'x'.join(map(str, shape[2:]))}"


def _borders(name: str, size: tuple[int, int]) -> list[Shape]:
    """Shapes behind the stem and behind each stage."""
    import torch

    from cspbench.models.build import build
    from cspbench.models.sources.hybrid import body_of

    parsed = ModelId.parse(name)
    body = body_of(build(parsed, weights=False), name)
    x = torch.empty(1, 3, *size, device="meta")
    shapes = []
    modules: list[nn.Module] = [body.stem, *body.stages]
    with torch.inference_mode():
        for module in modules:
            x = module(x)
            shapes.append(tuple(x.shape))
    return shapes
