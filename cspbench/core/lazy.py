"""Public names that are imported when they are first used, so that importing a package is light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    module: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module with public names from other modules.

    Args:
        module: the module's own name, for the message about an unknown one.
        homes: public name -> module that defines it, or package of which it is a module.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        defined = vars(importlib.import_module(homes[name]))
        if name in defined:
            return defined[name]
        return importlib.import_module(f"{homes[name]}.{name}")

    return get, lambda: sorted(homes)
