"""How many inputs and outputs the nodes of an ONNX graph have, held against ONNX's own operators.

``onnx.shape_inference`` believes these numbers: with others it reads beyond its lists and the
process ends.
"""

from __future__ import annotations

import functools
from typing import Any

from onnx import defs

from cspbench.errors import InputError
from cspbench.models.sources.onnx_nodes import with_inner


def check_arity(model: Any, path: str) -> None:
    """Check every node of the graph, those of branches and loops included.

    Args:
        model: an ``onnx.ModelProto``; its functions are not looked at.
        path: its file, for messages.

    Raises:
        InputError: a node has more or fewer inputs or outputs than its operator.
    """
    versions = {_domain(one.domain): one.version for one in model.opset_import}
    for node in with_inner(model.graph.node):
        domain = _domain(node.domain)
        bounds = _bounds(node.op_type, versions.get(domain, 1), domain)
        if bounds is None:
            continue
        for what, number, (least, most) in (
            ("inputs", len(node.input), bounds[0]),
            ("outputs", len(node.output), bounds[1]),
        ):
            if not least <= number <= most:
                raise InputError(
                    f"{path}: node {node.name[:80]!r} ({node.op_type}) has {number} {what}; "
                    f"it must have {least} to {most}"
                )


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


@functools.lru_cache(maxsize=4096)
def _bounds(name: str, version: int, domain: str) -> Any:
    """((fewest, most) inputs, (fewest, most) outputs); None for an operator that onnx lacks."""
    try:
        schema = defs.get_schema(name, version, domain)
    except (defs.SchemaError, TypeError):  # a version beyond 32 bits is no version either
        return None
    return (schema.min_input, schema.max_input), (schema.min_output, schema.max_output)
