"""How many nodes an ONNX model has once its functions are inlined, counted without inlining them.

Every call of a function becomes the nodes of its body, so that functions which call each other
grow without bound: 1.3 kB can stand for a million nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cspbench.errors import InputError

#: Nodes of a model, those of its functions counted at every call; large networks have thousands.
MAX_NODES = 20_000
#: How many bytes the inlined nodes may have beyond those of the file.
MAX_GROWTH_BYTES = 64 * 2**20
#: How deep functions may call each other; exporters write one for each module around a layer.
MAX_CALLS = 100
#: What inlining adds to a node: its names get longer.
_NAME_BYTES = 100


class _Size(NamedTuple):
    """Of nodes and all that they call."""

    nodes: int = 0
    bytes: int = 0


def check_nodes(model: Any, path: str) -> None:
    """Refuse a model that has too many nodes, or would have if its functions were inlined.

    Args:
        model: an ``onnx.ModelProto``.
        path: its file, for messages.

    Raises:
        InputError: it has; or its functions call each other too deep, or in a circle.
    """
    size = _Counter(model, path).of(model.graph.node, 0)
    if size.nodes > MAX_NODES:
        raise InputError(f"{path}: has {size.nodes:,} nodes, more than the {MAX_NODES:,} allowed")
    if model.functions and size.bytes > model.ByteSize() + MAX_GROWTH_BYTES:
        raise InputError(
            f"{path}: its functions would become {size.bytes / 2**20:,.0f} MiB once inlined; "
            "give it without functions"
        )


class _Counter:
    """Counts each function once."""

    def __init__(self, model: Any, path: str) -> None:
        self.path = path
        self.functions = {_key(function): function for function in model.functions}
        self.sizes: dict[tuple[str, str, str], _Size] = {}

    def of(self, nodes: Iterable[Any], depth: int) -> _Size:
        """Size of nodes with what they call; ``depth`` calls lead to them."""
        if depth > MAX_CALLS:
            raise InputError(
                f"{self.path}: its functions call each other more than {MAX_CALLS} deep, "
                "or in a circle"
            )
        count = total = 0
        for node in with_inner(nodes):
            called = self._called(_key(node), depth) if self.functions else _Size()
            count += called.nodes + 1
            total += called.bytes + node.ByteSize() + _NAME_BYTES
        return _Size(count, total)

    def _called(self, key: tuple[str, str, str], depth: int) -> _Size:
        function = self.functions.get(key)
        if function is None:
            return _Size()
        if key not in self.sizes:
            self.sizes[key] = self.of(function.node, depth + 1)
        return self.sizes[key]


def _key(item: Any) -> tuple[str, str, str]:
    """Domain, name and overload of a function or of a node that calls it."""
    name = item.op_type if hasattr(item, "op_type") else item.name
    return item.domain, name, getattr(item, "overload", "")


def with_inner(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs in their attributes; protobuf bounds the depth."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for graph in graphs:
                yield from with_inner(graph.node)
