"""Reads YAML text as plain values, each with its line and column.

ruamel.yaml composes the text into nodes, which runs no code and expands no alias. This module turns
the nodes into plain values, because it keeps their locations and bounds everything that a hostile
file can make large: bytes, nodes, depth, and the expansion of aliases.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from cspbench.suite.problems import Problems, SourceLocation, TooManyProblems

#: Path of a value in the tree, for example ``("matrix", "gamma", 0)``.
Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 32
MAX_TEXT = 1000
_CORE = "tag:yaml.org,2002:"


@dataclass
class Tree:
    """Plain values (dict, list, str, int, float, bool, None) and their locations.

    ``places`` has the location of each value, ``keys`` that of each mapping key.
    """

    data: Any
    source: str
    places: dict[Path, SourceLocation] = field(default_factory=dict)
    keys: dict[Path, SourceLocation] = field(default_factory=dict)

    def where(self, path: Path, *, key: bool = False) -> SourceLocation:
        """Location of a value or, with ``key``, of its key; if missing, of the enclosing value."""
        name = _dotted(path)
        if key and path in self.keys:
            return self.keys[path]._replace(key=name)
        for end in range(len(path), -1, -1):
            place = self.places.get(path[:end])
            if place is not None:
                return SourceLocation(place.source, place.line, place.column, name)
        return SourceLocation(self.source, 1, 1, name)

    def at(self, path: Path) -> Any:
        """The value at a path that exists."""
        value = self.data
        for part in path:
            value = value[part]
        return value

    def where_unknown(self, path: Path) -> SourceLocation:
        """Location of an unknown key, named by its mapping."""
        return self.where(path, key=True)._replace(key=self.where(path[:-1]).key)

    def graft(self, path: Path, other: Tree) -> None:
        """Replace the value at ``path`` by ``other``; missing mappings on the path are made."""
        for places in (self.places, self.keys):
            for old in [p for p in places if p[: len(path)] == path]:
                del places[old]
        parent = self.data
        for part in path[:-1]:
            if not isinstance(parent.get(part), dict):
                parent[part] = {}
            parent = parent[part]
        parent[path[-1]] = other.data
        self.keys[path] = other.where(())
        self.places.update({path + below: place for below, place in other.places.items()})


def parse_yaml(text: str, source: str, problems: Problems, *, one_place: bool = False) -> Tree:
    """Parse YAML 1.2 text; mistakes go to ``problems``.

    After a mistake ``data`` is None, unless the only mistake is a repeated key.

    Args:
        text: the whole document.
        source: name of the file, for messages.
        problems: collects the mistakes.
        one_place: every value has the location ``source`` (a value of the command line).
    """
    reader = _Reader(source, problems, one_place)
    try:
        with warnings.catch_warnings():
            # ruamel warns about anchors that are defined twice, which YAML allows.
            warnings.simplefilter("ignore")
            node = _compose(text)
    except _Bounded as error:
        problems.add(reader.place(error.mark), str(error))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        place = SourceLocation(source) if one_place else SourceLocation(source, line, column)
        code = error.character if isinstance(error.character, int) else ord(error.character)
        problems.add(place, f"the character U+{code:04X} is not allowed in YAML")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(reader.place(mark), _yaml_sentence(error, text))
    except (YAMLError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError,
            ValueError, RecursionError, NotImplementedError) as error:  # fmt: skip
        # For some damaged texts ruamel raises errors of other types.
        problems.add(reader.place(None), f"not valid YAML: {error or type(error).__name__}")
    else:
        if node is not None:
            reader.tree.data = reader.value(node, ())
    if reader.broken:
        reader.tree.data = None
    return reader.tree


class _Bounded(Exception):
    def __init__(self, sentence: str, mark: Any) -> None:
        super().__init__(sentence)
        self.mark = mark


class _BoundedComposer(Composer):
    """Composer that stops at too many or too deeply nested nodes."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.levels = 0
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.levels += 1
        self.nodes += 1
        if self.levels > MAX_DEPTH:
            raise _Bounded(
                f"nested more than {MAX_DEPTH} deep", self.parser.peek_event().start_mark
            )
        if self.nodes > MAX_NODES:
            sentence = f"more than {MAX_NODES:,} values; a suite is smaller"
            raise _Bounded(sentence, self.parser.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def _compose(text: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    node: Node | None = yaml.compose(text)
    return node


def _yaml_sentence(error: MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    at = line[mark.column : mark.column + 1] if mark is not None else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or at == "\t":
        return "the line is indented with a tab; YAML allows only spaces"
    parts = (error.context, error.problem)
    sentence = ", ".join(" ".join(str(part).split()) for part in parts if part)
    hint = '; inside [ ] and { } quote a name with options: "name[key=value]"' if at == "[" else ""
    return f"not valid YAML: {sentence}{hint}"


@dataclass
class _Reader:
    """Turns nodes into plain values and keeps their locations."""

    source: str
    problems: Problems
    one_place: bool
    tree: Tree = field(init=False)
    values: int = 0
    broken: bool = False
    open_nodes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tree = Tree(None, self.source)

    def place(self, mark: Any, key: str = "") -> SourceLocation:
        if self.one_place:
            return SourceLocation(self.source)
        if mark is None:
            return SourceLocation(self.source, 1, 1, key)
        return SourceLocation(self.source, mark.line + 1, mark.column + 1, key)

    def value(self, node: Node, path: Path) -> Any:
        where = self.place(node.start_mark, _dotted(path))
        self.tree.places[path] = where
        self.values += 1
        if self.values > MAX_NODES:
            self._stop(where, f"aliases expand to more than {MAX_NODES:,} values")
        if id(node) in self.open_nodes:
            return self._broken(where, "an alias refers to a value that contains it")
        if len(self.open_nodes) >= MAX_DEPTH:
            self._stop(where, f"nested more than {MAX_DEPTH} deep")
        if isinstance(node, ScalarNode):
            return self._scalar(node, where)
        self.open_nodes.append(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _CORE + "seq":
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _CORE + "map":
                return self._mapping(node, path)
        finally:
            self.open_nodes.pop()
        return self._broken(where, f"the tag {_short(str(node.tag))} is not allowed")

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            where = self.place(key_node.start_mark)
            if not isinstance(key, str) or len(key) > MAX_TEXT or not key:
                self._broken(where, "a key must be a short text")
            elif str(key_node.tag) == _CORE + "merge":
                self._broken(where, "merge keys (<<) are not part of YAML 1.2; write the keys")
            elif key in mapping:
                first = self.tree.keys[(*path, key)]
                self.problems.add(where, f"{key!r} is given twice, first on line {first.line}")
            else:
                self.tree.keys[(*path, key)] = where
                mapping[key] = self.value(value_node, (*path, key))
                if value_node.value == "":
                    # The key has no value, and ruamel gives the location of the next node.
                    self.tree.places[(*path, key)] = where._replace(key=_dotted((*path, key)))
        return mapping

    def _scalar(self, node: ScalarNode, where: SourceLocation) -> Any:
        tag, text = str(node.tag), str(node.value)
        if len(text) > MAX_TEXT:
            return self._broken(
                where, f"{len(text):,} characters; at most {MAX_TEXT:,} are allowed"
            )
        read = _SCALARS.get(tag)
        if read is None:
            return self._broken(where, f"the tag {_short(tag)} is not allowed")
        try:
            return read(text)
        except ValueError:
            return text  # it only looks like a number ("0x", "1:30")

    def _broken(self, where: SourceLocation, sentence: str) -> Any:
        """Note a mistake that leaves no value, so that the values around it cannot be checked."""
        self.broken = True
        self.problems.add(where, sentence)
        return None

    def _stop(self, where: SourceLocation, sentence: str) -> NoReturn:
        self.problems.add(where, sentence)
        raise TooManyProblems


def _dotted(path: Path) -> str:
    """The keys of a path for messages: printable and bounded for any file."""
    keys = [part for part in path if isinstance(part, str)]
    return ".".join(k if len(k) <= 40 and k.isprintable() else repr(k[:40]) for k in keys[:6])


def _short(tag: str) -> str:
    return "!!" + tag[len(_CORE) :][:60] if tag.startswith(_CORE) else tag[:60]


def _integer(text: str) -> int:
    prefix = text.lstrip("+-")[:2].lower()
    return int(text, 0 if prefix in ("0x", "0o", "0b") else 10)


def _real(text: str) -> float:
    lowered = text.lower()
    return float(lowered.replace(".inf", "inf").replace(".nan", "nan"))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _nothing(text: str) -> None:  # noqa: ARG001 - same form as its neighbours
    return None


_SCALARS: dict[str, Any] = {
    _CORE + "str": str,
    _CORE + "int": _integer,
    _CORE + "float": _real,
    _CORE + "bool": _boolean,
    _CORE + "null": _nothing,
    # YAML 1.1 gives these scalars a meaning even without a tag; suites do not need it.
    _CORE + "timestamp": str,
    _CORE + "merge": str,
    _CORE + "value": str,
}
