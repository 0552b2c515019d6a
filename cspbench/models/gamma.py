"""Which shares γ a staged network can be split by. Light: specs use it without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from cspbench.core.options import Options

#: Longest list of legal values that a message spells out.
_SPELT_OUT = 16


def part_widths(channels: int, gamma: float, multiple: int = 1) -> tuple[int, int]:
    """Split ``channels`` of a base: the part that bypasses (γ), and the part that is computed on.

    The computed part must be a multiple of ``multiple``: the groups of its convolutions.

    Raises:
        ValueError: γ times the channels is not a whole number, or a part would be empty.
    """
    bypass = Fraction(gamma).limit_denominator(10**6) * channels
    if bypass.denominator != 1 or not 0 < bypass < channels:
        raise ValueError(f"gamma {gamma:g} of {channels} channels is {float(bypass):g}")
    computed = channels - int(bypass)
    if computed % multiple:
        raise ValueError(f"{computed} computed channels are not a multiple of {multiple}")
    return int(bypass), computed


def legal(bases: Sequence[int], multiple: int = 1) -> list[Fraction]:
    """Return every γ that splits all ``bases`` into whole parts."""
    common = math.gcd(*bases)
    return [
        gamma
        for gamma in (Fraction(k, common) for k in range(1, common))
        if all((base - gamma * base) % multiple == 0 for base in bases)
    ]


def problem(gamma: float, bases: Sequence[int], multiple: int = 1, note: str = "") -> str | None:
    """Say in one sentence why γ cannot split ``bases``, with the legal values; None if it can.

    ``bases`` are the channels of every base that is split; ``note`` is appended.
    """
    try:
        for base in bases:
            part_widths(base, gamma, multiple)
    except ValueError as error:
        return f"{error}; legal gamma: {_spell(legal(bases, multiple))}{note}"
    return None


def csp_check(bases: Sequence[int], multiple: int = 1) -> Callable[[Options], str | None]:
    """Return a spec's check of its ``csp.*`` options for stages of these base channels."""

    def check(options: Options) -> str | None:
        if options.get("csp.fusion", "none") == "none":
            return None
        return problem(float(options["csp.gamma"]), bases, multiple)

    return check


def _spell(values: Sequence[Fraction]) -> str:
    if not values:
        return "none"
    if len(values) <= _SPELT_OUT:
        return ", ".join(f"{float(value):g}" for value in values)
    step = values[0]
    even = all(value == step * (i + 1) for i, value in enumerate(values))
    if even:
        return f"multiples of {step} from {float(step):g} to {float(values[-1]):g}"
    near = ", ".join(f"{float(value):g}" for value in values[:: max(1, len(values) // _SPELT_OUT)])
    return f"{near}, ... ({len(values)} values)"
