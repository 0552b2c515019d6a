"""Nodes of an ONNX model: their number, their order and their names.

Their number is counted as if functions were inlined, without inlining them. Every call of a
function becomes the nodes of its body, so that functions which call each other grow without bound:
1.3 kB can stand for a million nodes.
"""

from __future__ import annotations

import heapq
from collections import Counter
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
        for graph in _graphs_in(node):
            yield from with_inner(graph.node)


def _graphs_in(node: Any) -> Iterator[Any]:
    """The graphs in the attributes of a node: the branches of an If, the body of a Loop."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def sort_nodes(graph: Any, path: str) -> None:
    """Put the nodes of a graph into an order in which each stands behind those that it reads.

    A file may have another order: ONNX Runtime's own converter to float16 writes such files. Where
    the order of the file will do, it stays.

    Args:
        graph: an ``onnx.GraphProto``; those in attributes of its nodes stay as they are.
        path: its file, for messages.

    Raises:
        InputError: nodes read each other in a circle.
    """
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    missing = [{makers[name] for name in _read(node) if name and name in makers}
               for node in graph.node]  # fmt: skip
    readers: dict[int, list[int]] = {}
    for number, feeders in enumerate(missing):
        for feeder in feeders:
            readers.setdefault(feeder, []).append(number)
    ready = [number for number, feeders in enumerate(missing) if not feeders]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for reader in readers.get(number, ()):
            missing[reader].discard(number)
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(missing):
        stuck = graph.node[min(set(range(len(missing))) - set(order))]
        raise InputError(
            f"{path}: its nodes read each other in a circle, one of them is "
            f"{stuck.name[:80]!r} ({stuck.op_type})"
        )
    if order != sorted(order):
        nodes = [graph.node[number] for number in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _read(node: Any) -> Iterator[str]:
    """Names that a node reads, those that the graphs in its attributes take from outside too."""
    yield from node.input
    for graph in _graphs_in(node):
        for inner in graph.node:
            yield from _read(inner)
        yield from (output.name for output in graph.output)


def name_nodes(graph: Any) -> None:
    """Give each node that has no name, or one that another node has too, a name of its own.

    Profilers tell nodes apart by their names.
    """
    count = Counter(node.name for node in graph.node)
    taken = set(count)
    for number, node in enumerate(graph.node):
        if node.name and count[node.name] == 1:
            continue
        name = f"{node.op_type}_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name
