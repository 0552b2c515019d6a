"""The field ``layers`` of a launch record: what a backend's profiler told, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cspbench.artifacts.spec import Node
from cspbench.backends.spec import LayerProfile


def to_answer(profile: LayerProfile, nodes: Sequence[Node]) -> dict[str, Any]:
    """The field ``layers`` of a launch record: entries and nodes as rows of plain values."""
    return {
        **{key: value for key, value in asdict(profile).items() if key != "entries"},
        "entries": [[e.name, e.op, e.ns, list(e.members)] for e in profile.entries],
        "nodes": [[node.name, node.op, list(node.producers), list(node.aliases)] for node in nodes],
    }
