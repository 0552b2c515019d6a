"""First level of the tracer: rules for common PyTorch functions.

A rule computes the output's shape in Python, makes the output and records the layer. Where the
arguments are of a kind that it does not know it hands over to the second level (`dispatch`), which
is slower and complete. Rules hold no cost formula: those are in ``metrics``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that everybody gives it)

from cspbench.analysis.rules import movement, pointwise, pools, products, simple
from cspbench.analysis.rules.simple import Rule

_SPACES: tuple[Any, ...] = (torch, torch.Tensor, F, torch._C._nn)


def _by_function() -> dict[Any, Rule]:
    """Every function, method and operator that a rule's name stands for."""
    table: dict[Any, Rule] = {}
    for rules in (simple.RULES, movement.RULES, pools.RULES, pointwise.RULES, products.RULES):
        for name, rule in rules.items():
            for space in _SPACES:
                function = getattr(space, name, None)
                if callable(function):
                    table[function] = rule
    for name in simple.PROPERTIES:
        if hasattr(torch.Tensor, name):
            table[getattr(torch.Tensor, name).__get__] = simple.ask
    table[torch._C._set_grad_enabled] = simple.ask
    return table


def _by_aten_name() -> dict[str, Rule]:
    """Rules for exported graphs, whose operators take their arguments as ATen does."""
    table: dict[str, Rule] = {}
    for rules in (movement.RULES, pools.RULES, pointwise.RULES, products.RULES):
        table |= {name: rule for name, rule in rules.items() if not name.startswith("__")}
    table |= pointwise.ATEN_RULES
    for dims in (1, 2, 3):
        table[f"upsample_nearest{dims}d"] = table["interpolate"]
    table["upsample_bilinear2d"] = table["upsample_bicubic2d"] = table["interpolate"]
    table["slice"] = movement.RULES["__slice__"]
    table["dropout"] = simple.RULES["dropout"]
    return table


#: ATen name without namespace and overload -> rule.
ATEN_RULES: dict[str, Rule] = _by_aten_name()
#: Function -> rule.
RULES: dict[Any, Rule] = _by_function()
