"""Hybrids of two networks: parts of one in the place of the other's, ``hybrid:A;B;0110``.

The digits say of each part (stem, stages in order, everything behind them) whether it is A's (0) or
B's (1). A and B are ids of networks that have a stem and equally many stages; parts fit where the
maps between them have equal shapes. `cspbench.attribution.ladder` walks over such hybrids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cspbench.core.options import Options
from cspbench.errors import InputError
from cspbench.models.spec import SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

_TARGET = re.compile(r"([^;]+);([^;]+);([01]{3,64})")


def _split(target: str) -> tuple[str, str, str]:
    match = _TARGET.fullmatch(target)
    if not match:
        raise InputError(
            f"hybrid:{target} must be written hybrid:A;B;0110: two model ids, and a digit for the "
            "stem, for each stage and for what follows"
        )
    return match[1], match[2], match[3]


def spec(target: str) -> ModelSpec:
    """Describe the target; input and stride are those of A.

    Raises:
        InputError: it is not written as it must be, or a network is unknown.
    """
    from cspbench.models.build import default_input, spec_of

    a, b, _ = _split(target)
    first, second = spec_of(a), spec_of(b)
    return ModelSpec(
        name=f"hybrid:{target}",
        summary=f"parts of {b} in {a}",
        source=f"{first.source}; {second.source}",
        confidence="open",
        build=lambda options: build(target, options),
        family="hybrid",
        task=first.task,
        input=default_input(a)[0],
        stride=max(first.stride, second.stride),
        min_input=max(first.min_input, second.min_input),
    )


def build(target: str, _options: Options) -> nn.Module:
    """Put the parts together, on the meta device.

    Raises:
        InputError: a network has no stages, or another number of them than digits say.
    """
    from cspbench.models.build import build as build_model

    a, b, digits = _split(target)
    modules = [build_model(name, weights=False) for name in (a, b)]
    bodies = [body_of(module, name) for module, name in zip(modules, (a, b), strict=True)]
    base = int(digits[-1])
    whole, body = modules[base], bodies[base]
    for own, name in zip(bodies, (a, b), strict=True):
        if len(own.stages) + 2 != len(digits):
            raise InputError(
                f"hybrid: {name} has {len(own.stages)} stages, so {len(own.stages) + 2} digits "
                f"are needed, not {len(digits)}"
            )
    body.stem = bodies[int(digits[0])].stem
    for number, digit in enumerate(digits[1:-1]):
        body.stages[number] = bodies[int(digit)].stages[number]
    return whole


def body_of(module: nn.Module, name: str) -> Any:
    """The part of a network that has ``stem`` and ``stages``: itself, or its backbone.

    Raises:
        InputError: there is none.
    """
    for body in (module, getattr(module, "backbone", None)):
        if body is not None and hasattr(body, "stem") and hasattr(body, "stages"):
            return body
    raise InputError(f"{name} has no stem and stages, so no part of it can be exchanged")


SOURCES.add(SourceSpec("hybrid", "parts of one network in another one", spec, build))
