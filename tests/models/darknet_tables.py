"""The layer tables of tests/models/data/darknet_networks.md as Darknet configurations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data" / "darknet_networks.md"

_HEAD = re.compile(r"(?P<source>.+?); input 3x(?P<side>\d+)x\d+; (?P<count>\d+) layers")
_LAYER = re.compile(r"(\d+) (\w+) ?(.*)")
_BLOCK = re.compile(r"\[(\d+)-(\d+)\] x(\d+)")
_SECTION = {"conv": "convolutional"}


@dataclass(frozen=True)
class Table:
    """One network: where it was published, its input side, how many layers it has, and them."""

    name: str
    source: str
    side: int
    count: int
    layers: tuple[tuple[str, str], ...]

    def cfg(self, side: int | None = None) -> str:
        """The configuration's text, at another input side if one is given."""
        side = side or self.side
        sections = [f"[net]\nwidth={side}\nheight={side}\nchannels=3\n"]
        sections += [_section(kind, attributes) for kind, attributes in self.layers]
        return "\n".join(sections)


def _section(kind: str, attributes: str) -> str:
    lines = [f"[{_SECTION.get(kind, kind)}]"]
    words = attributes.split()
    if kind == "conv" and "pad0" not in words:
        lines.append("pad=1")
    for word in words:
        number = re.fullmatch(r"([fksg])(\d+)", word)
        if number:
            names = {"f": "filters", "k": "size", "s": "stride", "g": "groups"}
            lines.append(f"{names[number[1]]}={number[2]}")
        elif word == "bn":
            lines.append("batch_normalize=1")
        elif "=" in word:
            lines.append(word)
        elif word != "pad0":
            lines.append(f"activation={word}")
    if kind == "yolo":
        lines.append("classes=80")
    return "\n".join(lines) + "\n"


def _unfold(lines: list[str]) -> tuple[tuple[str, str], ...]:
    layers: list[tuple[str, str]] = []
    for line in lines:
        block = _BLOCK.fullmatch(line)
        if block:
            first, last, times = (int(number) for number in block.groups())
            layers += layers[first : last + 1] * times
            continue
        layer = _LAYER.fullmatch(line)
        assert layer is not None, line
        assert int(layer[1]) == len(layers), line
        layers.append((layer[2], layer[3]))
    return tuple(layers)


def tables() -> dict[str, Table]:
    """Every network of the file, by name."""
    found = {}
    for part in DATA.read_text().split("\n## ")[1:]:
        name, head, *rest = part.splitlines()
        facts = _HEAD.fullmatch(head)
        assert facts is not None, head
        fence = [number for number, line in enumerate(rest) if line == "```"]
        layers = _unfold(rest[fence[0] + 1 : fence[1]])
        found[name] = Table(name, facts["source"], int(facts["side"]), int(facts["count"]), layers)
    return found
