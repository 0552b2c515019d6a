"""Finds suites: by path, in ``./suites``, and among those installed with the package."""

from __future__ import annotations

from pathlib import Path

import cspbench
from cspbench.core.text import nearest
from cspbench.errors import InputError

FOLDER = "suites"


def installed_suites() -> Path:
    """Folder of the installed suites: in a wheel inside the package, else beside it."""
    package = Path(cspbench.__file__).parent
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def find_suites(argument: str) -> list[Path]:
    """Return the suite files that an argument names.

    An existing file stands for itself, an existing directory for all its ``*.yaml`` at any depth,
    sorted. Any other argument is a name (``edge``, ``edge.yaml``, ``suites/edge.yaml``), searched
    in ``./suites`` and then among the installed suites.

    Raises:
        InputError: no suite has the name, or the directory contains none.
    """
    for path in (Path(argument), *_candidates(argument)):
        if _exists(path):
            return _files(path) if path.is_dir() else [path]
    names = [suite_name(path) for path in list_suites()]
    hint = nearest(argument.removeprefix(f"{FOLDER}/").removesuffix(".yaml"), names)
    raise InputError(
        f"{argument}: no such suite file, directory or name{hint}; known: {', '.join(names)}"
    )


def list_suites() -> list[Path]:
    """All suites with a name: those of ``./suites``, then installed ones of other names."""
    by_name: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.rglob("*.yaml")):
            by_name.setdefault(suite_name(path, folder), path)
    return [by_name[name] for name in sorted(by_name)]


def suite_name(path: Path, folder: Path | None = None) -> str:
    """Name by which :func:`find_suites` finds a file of :func:`list_suites`: ``paper/table1``."""
    for base in [folder] if folder else _folders():
        if path.is_relative_to(base):
            return path.relative_to(base).with_suffix("").as_posix()
    return path.stem


def _folders() -> list[Path]:
    return [folder for folder in (Path(FOLDER), installed_suites()) if folder.is_dir()]


def _candidates(argument: str) -> list[Path]:
    name = Path(argument)
    if name.is_absolute() or ".." in name.parts or "\0" in argument:
        return []
    relative = Path(*name.parts[1:]) if name.parts[:1] == (FOLDER,) else name
    names = [relative, relative.with_name(f"{relative.name}.yaml")] if relative.name else [relative]
    return [folder / name for folder in _folders() for name in names]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # the text cannot be a path: too long, or with a null character


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*.yaml") if path.is_file())
    if not files:
        raise InputError(f"{folder}: holds no suite (*.yaml)")
    return files
