"""First level of the tracer: rules for common PyTorch functions.

A rule computes the output's shape in Python, makes the output and records the layer. Where the
arguments are of a kind that it does not know it hands over to the second level (`dispatch`), which
is slower and complete. Rules hold no cost formula: those are in ``metrics``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that everybody gives it)

from cspbench.analysis.rules import (
    attention,
    movement,
    native,
    pointwise,
    pools,
    products,
    quantized,
    recurrent,
    simple,
)
from cspbench.analysis.rules.simple import Rule

_SPACES: tuple[Any, ...] = (torch, torch.Tensor, F, torch._C._nn)


_TABLES = (
    *(movement.RULES, pools.RULES, pointwise.RULES, products.RULES, recurrent.RULES),
    *(attention.RULES, native.RULES),
)


def _by_function() -> dict[Any, Rule]:
    """Every function, method and operator that a rule's name stands for."""
    table: dict[Any, Rule] = dict(quantized.by_function())
    for rules in (simple.RULES, *_TABLES):
        for name, rule in rules.items():
            for space in _SPACES:
                function = getattr(space, name, None)
                if callable(function):
                    table[function] = rule
    for name in ("batch_norm", "instance_norm"):  # torch's own take their arguments as ATen does
        table[getattr(torch, name)] = pointwise.ATEN_RULES[name]
    for name in simple.PROPERTIES:
        if hasattr(torch.Tensor, name):
            table[getattr(torch.Tensor, name).__get__] = simple.ask
    table[torch._C._set_grad_enabled] = simple.ask
    table[torch.sparse.mm] = products.sparse_mm
    return table


def _by_aten_name() -> dict[str, Rule]:
    """Rules for exported graphs, whose operators take their arguments as ATen does."""
    table: dict[str, Rule] = {}
    for rules in _TABLES:
        table |= {name: rule for name, rule in rules.items() if not name.startswith("__")}
    table |= pointwise.ATEN_RULES | pools.ATEN_RULES
    table["slice"] = movement.RULES["__slice__"]
    table["dropout"] = simple.RULES["dropout"]
    return table


def _checked() -> frozenset[Any]:
    """Functions whose first call in a pass is compared with torch's own meta kernel."""
    names = (*_SHAPED, *products.RULES, *attention.RULES)
    return frozenset(
        getattr(space, name) for name in names for space in _SPACES if hasattr(space, name)
    )


#: Rules besides the products that compute a new shape, and whose meta kernels are cheap.
_SHAPED = ("cat", "pad", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean")
#: ATen name without namespace and overload -> rule.
ATEN_RULES: dict[str, Rule] = _by_aten_name()
#: Function -> rule.
RULES: dict[Any, Rule] = _by_function()
#: Functions of which a sample is compared with torch's meta kernels.
CHECKED: frozenset[Any] = _checked()
