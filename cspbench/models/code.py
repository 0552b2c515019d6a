"""Permission to run untrusted code: ``--allow-code``.

Importing a user's module and unpickling can do anything, so both check the permission here first.
The command line, or a worker whose job contains it, grants it for one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cspbench.errors import InputError

_ALLOWED: ContextVar[bool] = ContextVar("cspbench_allow_code", default=False)


@contextmanager
def allowing_code(allowed: bool = True) -> Iterator[None]:
    """Allow code from outside the package inside the block; False changes nothing."""
    token = _ALLOWED.set(allowed or _ALLOWED.get())
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def require_code(name: str) -> None:
    """Raise InputError unless code is allowed; ``name`` is what would run it."""
    if not _ALLOWED.get():
        raise InputError(f"{name} runs code that is not cspbench's; it needs --allow-code")
