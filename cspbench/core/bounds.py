"""Bounds of values in typed results, checked by all readers of stored or untrusted results.

They are annotations, ``Annotated[int, Within(0, MOST)]``. pydantic applies them when it checks a
value. A worker, whose environment may lack pydantic, imports and ignores them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

#: Longer than any measurement takes (30 years in ns).
MOST = 10**18
#: Characters of the name of a job or a block.
LONGEST_NAME = 32


class Within:
    """A number from ``low`` to ``high``, both included; never NaN or infinite."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        schema = handler(source)
        schema |= {"ge": self.low, "le": self.high}
        return schema if schema["type"] == "int" else {**schema, "allow_inf_nan": False}


class Checked:
    """A value checked by a function, which returns it or raises ValueError."""

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self.check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self.check, handler(source))


T = TypeVar("T")


def checked(validate: Callable[[Any], T], data: object) -> T:
    """Validate a value by a pydantic function.

    Raises:
        ValueError: the first problem, as a phrase with its location.
    """
    from pydantic import ValidationError

    try:
        return validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


class AtMost:
    """A list or mapping of so many items, checked before them: each wrong one costs memory."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_before_validator_function

        return no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if isinstance(value, dict | list) and len(value) > self.items:
            raise ValueError(f"it holds {len(value):,} items, more than {self.items:,}")
        return value


class FirstWrong:
    """A list whose check ends at its first wrong item: a file of strangers may hold millions.

    It is ``pydantic.FailFast``, without the import of pydantic.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return {**handler(source), "fail_fast": True}


class _Latencies:
    """Durations in ns, checked all together: one by one would take double the time."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_plain_validator_function

        return no_info_plain_validator_function(self._check)

    @staticmethod
    def _check(values: Any) -> Any:
        if not isinstance(values, list) or set(map(type, values)) != {int}:
            raise ValueError("latencies must be a list of whole numbers")
        if not 1 <= min(values) <= max(values) <= MOST:
            raise ValueError("a latency is out of range")
        return values


def not_empty(values: list[T]) -> list[T]:
    """Check that a list has items."""
    if not values:
        raise ValueError("it is empty")
    return values


def short(text: str) -> str:
    """Check that a name is short."""
    if len(text) > LONGEST_NAME:
        raise ValueError("the name is too long")
    return text


#: Counts, bytes and nanoseconds.
Count: TypeAlias = Annotated[int, Within(0, MOST)]
Positive: TypeAlias = Annotated[int, Within(1, MOST)]
Latencies: TypeAlias = Annotated[list[int], _Latencies()]
Number: TypeAlias = Annotated[float, Within(-MOST, MOST)]
Amount: TypeAlias = Annotated[float, Within(0, MOST)]
#: A setting in seconds: at most eleven days, which every clock and wait accepts.
Seconds: TypeAlias = Annotated[float, Within(0, 10**6)]
#: 1e9 operations or bytes a second; dividing by such a rate neither underflows nor overflows.
Rate: TypeAlias = Annotated[float, Within(1e-6, 1e9)]
