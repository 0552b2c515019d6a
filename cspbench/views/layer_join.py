"""Measured time of layers: entries of a backend's profiler, joined to the layers of an Analysis.

Pure. A join is made only where it is sure: nodes of the artifact and layers of one family
(convolutions, pools, ...) are paired by their order if there are equally many of both and the last
part of their names agrees; a normalisation or activation that has no time of its own belongs to the
layer that feeds it. Entries that stay alone are shown as the backend has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cspbench.analysis.layer import Layer
from cspbench.analysis.onnx_ops import family_of, name_of
from cspbench.analysis.ops import CONV_KINDS, FOLDABLE_KINDS, UNSUPPORTED
from cspbench.artifacts.spec import Node
from cspbench.jobs.layers import LayerTimes

#: Families whose members are compared by name as well: each is a module of its own.
_NAMED = CONV_KINDS | {"norm"}
#: A node does not tell whether a factor of its product is a weight.
_PRODUCTS = {"linear": "matmul"}
#: How far behind a fused kernel's last node its convolution may lie.
_MAX_STEPS = 4


@dataclass(frozen=True)
class LayerRow:
    """One entry of a profiler with the layers of the Analysis that it computes."""

    name: str
    op: str
    ns: int
    layers: tuple[int, ...] = ()


def join(times: LayerTimes, layers: Sequence[Layer]) -> list[LayerRow]:
    """Entries of a stored profile with the positions of their layers in the Analysis.

    Entries without time whose layers were computed by another one are left out.

    Args:
        times: the result of a launch of the layer profiler.
        layers: of the Analysis of the same model; may be empty.
    """
    nodes = [
        Node(name, op, tuple(producers), tuple(aliases))
        for name, op, producers, aliases in times.nodes
    ]
    positions = match(nodes, layers)
    by_name = {alias: number for number, node in enumerate(nodes) for alias in node.aliases}
    by_name |= {node.name: number for number, node in enumerate(nodes)}
    rows: list[LayerRow] = []
    for name, op, ns, members in times.entries:
        numbers = _numbers(op, [by_name[m] for m in members if m in by_name], nodes)
        known = sorted({positions[number] for number in numbers if number in positions})
        rows.append(LayerRow(name, op, int(ns), tuple(known)))
    return _absorb(rows, layers)


def kind_of_node(node: Node) -> str:
    """Family of a node's operator; ``conv`` also for what only a backend calls so."""
    return family_of(_operator(node))


def _operator(node: Node) -> str:
    """A node's operator as the Analysis calls it."""
    return name_of(node.op.removeprefix("aten.").split(".")[0].rstrip("_"), "")


def match(nodes: Sequence[Node], layers: Sequence[Layer]) -> dict[int, int]:
    """Pair nodes with layers of the same name; the others family by family.

    Of a family that does not fit, operators that do are paired: a product that is part of an
    activation (SiLU as Sigmoid and Mul) costs no addition its layer.
    """
    positions = _of_one_name(nodes, layers)
    paired = set(positions.values())
    node_kinds = [_PRODUCTS.get(kind, kind) for kind in map(kind_of_node, nodes)]
    layer_kinds = [_PRODUCTS.get(layer.kind, layer.kind) for layer in layers]
    for kind in set(layer_kinds) - {UNSUPPORTED, "view", "create"}:
        of_nodes = [
            number for number, own in enumerate(node_kinds)
            if own == kind and number not in positions
        ]  # fmt: skip
        of_layers = [
            number for number, own in enumerate(layer_kinds)
            if own == kind and number not in paired
        ]  # fmt: skip
        if len(of_nodes) != len(of_layers):
            if kind not in _NAMED:
                positions.update(_by_operator(nodes, of_nodes, layers, of_layers))
            continue
        pairs = dict(zip(of_nodes, of_layers, strict=True))
        if kind in _NAMED and not all(
            _same_tail(nodes[node].name, layers[layer].name) for node, layer in pairs.items()
        ):
            continue
        positions.update(pairs)
    _gates(nodes, layers, positions)
    return positions


def _by_operator(
    nodes: Sequence[Node], of_nodes: list[int], layers: Sequence[Layer], of_layers: list[int]
) -> dict[int, int]:
    """Pairs of those operators that nodes and layers have equally many of."""
    pairs: dict[int, int] = {}
    for op in {layers[number].op for number in of_layers}:
        mine = [number for number in of_nodes if _operator(nodes[number]) == op]
        theirs = [number for number in of_layers if layers[number].op == op]
        if len(mine) == len(theirs):
            pairs.update(zip(mine, theirs, strict=True))
    return pairs


def _gates(nodes: Sequence[Node], layers: Sequence[Layer], positions: dict[int, int]) -> None:
    """Give a product of an activation and its own input, such as x sigmoid(x), to that layer."""
    for number, node in enumerate(nodes):
        if number in positions or _operator(node) != "mul":
            continue
        for producer in node.producers:
            at = positions.get(producer)
            if at is None or layers[at].kind != "activation":
                continue
            if set(node.producers) == {producer, *nodes[producer].producers}:
                positions[number] = at


def _of_one_name(nodes: Sequence[Node], layers: Sequence[Layer]) -> dict[int, int]:
    """Nodes with the layers that bear their names: those of an ONNX file that names no modules."""
    numbers: dict[str, list[int]] = {}
    for number, layer in enumerate(layers):
        numbers.setdefault(layer.name, []).append(number)
    return {
        number: numbers[node.name][0]
        for number, node in enumerate(nodes)
        if node.name and len(numbers.get(node.name, ())) == 1
    }


def _same_tail(node: str, layer: str) -> bool:
    """``/stages.0/blocks/blocks.0/conv/Conv`` and ``stages.0.blocks.0.conv`` end in ``conv``."""
    if "/" not in node:  # an exported graph's own names (conv2d_3) tell nothing of modules
        return True
    return node.split("/")[-2].rsplit(".", 1)[-1] == layer.rsplit(".", 1)[-1]


def _numbers(op: str, known: list[int], nodes: Sequence[Node]) -> list[int]:
    """Nodes of an entry; for a convolution that bears the name of a later node also those between.

    ONNX Runtime names a fused kernel after its last node.
    """
    convolves = op.lower().startswith(("conv", "fusedconv"))
    if not convolves or len(known) != 1 or kind_of_node(nodes[known[0]]) == "conv":
        return known
    path = list(known)
    for _ in range(_MAX_STEPS):
        producers = nodes[path[-1]].producers
        convs = [number for number in producers if kind_of_node(nodes[number]) == "conv"]
        if len(convs) == 1:
            return [*path, convs[0]]
        if len(producers) != 1:
            break
        path.append(producers[0])
    return known


def _absorb(rows: Sequence[LayerRow], layers: Sequence[Layer]) -> list[LayerRow]:
    """Give norms and activations without time of their own to the row that feeds them."""
    owner = {layer: number for number, row in enumerate(rows) if row.ns for layer in row.layers}
    maker = {value: number for number, layer in enumerate(layers) for value in layer.outputs}
    for number, layer in enumerate(layers):
        if layer.kind not in FOLDABLE_KINDS or number in owner:
            continue
        makers = {maker[value] for value in layer.inputs if value in maker}
        owners = {owner[layer_number] for layer_number in makers if layer_number in owner}
        if len(owners) == 1:
            owner[number] = owners.pop()
    computed: dict[int, set[int]] = {}
    for layer_number, row_number in owner.items():
        computed.setdefault(row_number, set()).add(layer_number)
    return [
        LayerRow(row.name, row.op, row.ns, tuple(sorted(computed.get(number, row.layers))))
        for number, row in enumerate(rows)
        if row.ns or not (row.layers and set(row.layers) <= owner.keys())
    ]
