"""Axes: the options of models, necks and backends in a suite's matrix.

An axis has a default, which ids leave out, and checks values, so that every package gives the same
message for the same mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cspbench.core.text import nearest

Value: TypeAlias = bool | int | float | str
Options: TypeAlias = Mapping[str, Value]
Kind = Literal["choice", "fraction", "integer", "flag", "text"]


@dataclass(frozen=True)
class Axis:
    """One option: its name, default, kind and valid values.

    Kinds: ``choice`` (one of ``choices``), ``fraction`` (a number strictly between 0 and 1),
    ``integer`` (at least 1), ``flag`` (true or false), ``text`` (printable, without ", such as a
    path).
    """

    name: str
    default: Value
    kind: Kind = "choice"
    choices: tuple[Value, ...] = ()
    summary: str = ""

    def check(self, value: object) -> Value:
        """Return the canonical value.

        Raises:
            ValueError: the value is wrong; the phrase says what is valid.
        """
        if self.kind == "flag":
            if isinstance(value, bool):
                return value
            raise ValueError(f"{self.name} must be true or false, not {value!r}")
        if self.kind == "fraction":
            return self._fraction(value)
        if self.kind == "integer":
            if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
                return value
            raise ValueError(f"{self.name} must be a whole number of at least 1, not {value!r}")
        if self.kind == "text":
            return self._text(value)
        # True == 1 in Python: compare the types too.
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        valid = ", ".join(str(choice) for choice in self.choices)
        hint = nearest(str(value), [str(choice) for choice in self.choices])
        raise ValueError(f"{self.name} must be one of {valid}, not {value!r}{hint}")

    def _fraction(self, value: object) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and 0.0 < number < 1.0:
                return number
        raise ValueError(f"{self.name} must be a number strictly between 0 and 1, not {value!r}")

    def _text(self, value: object) -> str:
        if isinstance(value, str) and value.isprintable() and '"' not in value:
            return value
        raise ValueError(f'{self.name} must be printable text without ", not {value!r}')


def resolve(axes: Iterable[Axis], options: Options) -> dict[str, Value]:
    """Return every axis with its checked value, or its default.

    Raises:
        ValueError: an option is unknown, or its axis refuses the value.
    """
    known = {axis.name: axis for axis in axes}
    for name in options:
        if name not in known:
            valid = ", ".join(sorted(known)) or "none"
            raise ValueError(f"unknown option {name!r}{nearest(name, list(known))}; valid: {valid}")
    return {
        name: axis.check(options[name]) if name in options else axis.default
        for name, axis in known.items()
    }


def without_defaults(axes: Iterable[Axis], options: Options) -> dict[str, Value]:
    """Return the options, checked, that differ from their axis's default, keys sorted."""
    axes = tuple(axes)
    defaults = {axis.name: axis.default for axis in axes}
    return {
        name: value
        for name, value in sorted(resolve(axes, options).items())
        if value != defaults[name]
    }
