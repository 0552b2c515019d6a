"""The registry for everything that is added by one file.

A registry has packages whose modules register entries on import and, for other distributions, an
entry-point group that names such modules. Discovery imports those modules once, on the first
look-up that a module of the entry's own name does not answer: a worker, which needs one backend,
does not import all. They must be light (no torch, cv2, pandas, matplotlib at import time). Modules
whose name starts with an underscore are not imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from cspbench.core.text import matches, nearest
from cspbench.errors import InputError


class Named(Protocol):
    """An entry of a registry: it has a name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Specs by name, discovered lazily.

    Args:
        kind: noun for one entry in messages ("model", "backend").
        packages: packages whose modules register entries when imported.
        groups: entry-point groups by which other distributions name such modules.
        homes: modules of entries that do not have the entry's own name.
    """

    def __init__(
        self, kind: str, packages: tuple[str, ...], *groups: str, homes: Mapping[str, str] = {}
    ) -> None:
        self.kind = kind
        self._packages = packages
        self._groups = groups
        self._homes = homes
        self._entries: dict[str, T] = {}
        self._distributions: set[str] = set()
        self._discovered = False

    def add(self, entry: T) -> T:
        """Register ``entry``; two entries of one name are a programming error."""
        known = self._entries.get(entry.name)
        if known is not None and known != entry:
            raise ValueError(f"two {self.kind}s are named {entry.name!r}")
        self._entries[entry.name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry, or raise InputError with the nearest valid name."""
        if name not in self:
            raise InputError(f"unknown {self.kind} {name!r}{nearest(name, self.names())}")
        return self._entries[name]

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match ``pattern`` (``*`` and ``?``)."""
        self._discover()
        return sorted(name for name in self._entries if matches(pattern, name))

    def distributions(self) -> list[str]:
        """Names of other distributions that registered entries by an entry point."""
        self._discover()
        return sorted(self._distributions)

    def __iter__(self) -> Iterator[T]:
        self._discover()  # names() would compare each with a pattern, and every row of a table asks
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._import_home(str(name))
        if name not in self._entries:
            self._discover()
        return name in self._entries

    def _import_home(self, name: str) -> None:
        """Import the modules that have the entry's name, if there are any."""
        home = self._homes.get(name, name.replace("-", "_"))
        if self._discovered or home.startswith("_") or not home.isidentifier():
            return
        for package in self._packages:
            if importlib.util.find_spec(f"{package}.{home}") is not None:
                importlib.import_module(f"{package}.{home}")

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for package in self._packages:
            module = importlib.import_module(package)
            for info in pkgutil.iter_modules(module.__path__):
                if not info.name.startswith("_"):  # such modules are imported when a spec is used
                    importlib.import_module(f"{package}.{info.name}")
        for group in self._groups:
            for point in _entry_points().select(group=group):
                point.load()
                self._distributions.add(point.dist.name)


@functools.cache
def _entry_points() -> Any:  # its type differs before Python 3.12
    """Entry points of all distributions, scanned once for all registries."""
    from importlib.metadata import entry_points  # it takes longer than all of a worker's own

    return entry_points()
