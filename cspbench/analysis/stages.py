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
