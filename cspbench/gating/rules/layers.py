"""The number of operator calls."""

from __future__ import annotations

from cspbench.suite.rules import RULES, StaticRule

RULES.add(
    StaticRule(
        "layers",
        "calls",
        "operator calls of a forward pass",
        lambda analysis: len(analysis.layers),
        position=6,
    )
)
