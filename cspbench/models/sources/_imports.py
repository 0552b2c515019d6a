"""Files that a file of Python imports, found by reading it: nothing is imported.

Imports that are only decided when the code runs are not seen here; what is read while a model is
built is noted then (``cspbench.artifacts.reads``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from cspbench.core.files import open_input

_MAX_FILES = 1000
_MAX_BYTES = 4 * 2**20


def imported_files(file: Path, folders: Sequence[Path]) -> tuple[Path, ...]:
    """Files below ``folders`` that ``file`` imports, and those that they import, sorted."""
    found: dict[Path, None] = {}
    waiting = [file]
    while waiting and len(found) < _MAX_FILES:
        current = waiting.pop()
        for name in _names(current, folders):
            for one in _files(name, folders):
                if one not in found and not one.samefile(file):
                    found[one] = None
                    waiting.append(one)
    return tuple(sorted(found))


def _names(file: Path, folders: Sequence[Path]) -> Iterator[str]:
    """Dotted names of modules that a file may import."""
    try:
        with open_input(file) as opened:
            tree = ast.parse(opened.read(_MAX_BYTES))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = (*_package(file, node.level, folders), *(node.module or "").split("."))
            start = ".".join(filter(None, parts))
            yield start
            yield from (f"{start}.{alias.name}".lstrip(".") for alias in node.names)


def _package(file: Path, level: int, folders: Sequence[Path]) -> tuple[str, ...]:
    """The package from which ``level`` dots start."""
    if not level:
        return ()
    place = file.resolve().parent
    for _ in range(level - 1):
        place = place.parent
    for folder in folders:
        if place.is_relative_to(folder.resolve()):
            return place.relative_to(folder.resolve()).parts
    return ()


def _files(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """Files of a module and of the packages around it, in the first folder that has it."""
    parts = [part for part in name.split(".") if part.isidentifier()]
    for folder in folders:
        found = []
        place = folder
        for part in parts:
            place = place / part
            found += [one for one in (place / "__init__.py", place.with_suffix(".py"))
                      if one.is_file()]  # fmt: skip
        if found:
            yield from found
            return
