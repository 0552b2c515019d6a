"""Which stage of a network a module path belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

#: Names of modules that only hold a part of a detector: the stage is named one level deeper.
_HOLDERS = frozenset({"backbone", "features", "body", "base", "trunk", "encoder", "model"})


def stage_of(root: nn.Module, path: str) -> str:
    """The part of ``path`` that names the stage.

    That is the first component, and one more for each component that only holds others: a plain
    ``ModuleList`` / ``ModuleDict`` / ``Sequential``, or one of the usual names of a backbone.
    ``stages.1.block.conv`` of a ``ModuleList`` named ``stages`` gives ``stages.1``.
    """
    from torch import nn

    if not path:
        return ""
    parts = path.split(".")
    module: nn.Module = root
    for depth, part in enumerate(parts):
        module = module._modules[part]  # type: ignore[assignment]
        plain = type(module) in (nn.ModuleList, nn.ModuleDict)
        holder = depth == 0 and (type(module) is nn.Sequential or part in _HOLDERS)
        if not (plain or holder):
            return ".".join(parts[: depth + 1])
    return path
