"""Which stage of a network a module path belongs to.

The stage is the first component of the path, and one more for each component that only holds
others: a plain ``ModuleList`` or ``ModuleDict``, or a first component that is a plain
``Sequential`` or has one of the usual names of a backbone. So ``stages.1.block.conv`` of a
``ModuleList`` named ``stages`` belongs to ``stages.1``, and ``backbone.stages.1.block.conv`` of a
detector to ``backbone.stages.1``.
"""

from __future__ import annotations

#: Names of modules that only hold a part of a network.
HOLDERS = frozenset({"backbone", "features", "body", "base", "trunk", "encoder", "model"})

#: Names of containers whose children are the parts, where the modules themselves are not at hand.
_LISTS = frozenset({"stages", "layers", "blocks", "heads"})


def stage_of_path(path: str) -> str:
    """The stage by the path alone, for graphs that came without their modules."""
    parts = path.split(".")
    end = 1
    while end < len(parts) and (
        (end == 1 and parts[0] in HOLDERS)
        or (parts[end].isdigit() and parts[end - 1] in _LISTS)
        or (parts[end] in _LISTS and parts[end - 1] in HOLDERS)
    ):
        end += 1
    return ".".join(parts[:end])
