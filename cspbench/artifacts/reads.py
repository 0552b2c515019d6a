"""What was read while a model was built: files by their content, libraries by their version.

A model's own code may import modules, open data files and load weights that its id does not name.
They are noted while it is built, as paths beside the model where they lie there. So each later look
asks whether they are still the same, and a checkout elsewhere asks for its own files.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cspbench.core.cache import cache_folder
from cspbench.core.files import file_digest, file_version, open_input, write_whole

#: More files than this are not noted one by one; a model reads a handful.
MAX_FILES = 10_000
_MAX_BYTES = 16 * 2**20


@dataclass
class Reads:
    """Names of files, relative to the model's folder where they lie below it, and of libraries."""

    files: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)

    def digest(self, folder: Path) -> str:
        """Hash of what the files hold now, and of the versions of the libraries that are here."""
        facts = {
            "files": {name: _digest(folder / name, *file_version(folder / name))
                      for name in sorted(self.files)},
            "libraries": {name: version(name) for name in sorted(self.libraries)},
        }  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Keep the names."""
        names = {"files": sorted(self.files), "libraries": sorted(self.libraries)}
        write_whole(path, json.dumps(names).encode(), shared=True)

    @staticmethod
    def read(path: Path) -> Reads | None:
        """Names that were kept; None if there are none that can be read."""
        try:
            with open_input(path) as file:
                names = json.loads(file.read(_MAX_BYTES))
            return Reads(_texts(names["files"]), _texts(names["libraries"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _texts(values: Any) -> set[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("not a list of texts")
    return set(values)


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, *_version: int) -> str:
    return file_digest(path)


@functools.cache  # every case asks for it
def version(package: str) -> str:
    """Version of an installed distribution; empty if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class _Opened:
    """Notes paths that are opened for reading; an audit hook cannot be taken away again."""

    def __init__(self) -> None:
        self.notes: list[set[str]] = []
        self._hooked = False

    def begin(self, paths: set[str]) -> None:
        if not self._hooked:
            sys.addaudithook(self._hook)
            self._hooked = True
        self.notes.append(paths)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not self.notes:
            return
        path, _mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if isinstance(path, str | bytes) and not writes:
            for paths in self.notes:
                if len(paths) < MAX_FILES:
                    paths.add(os.path.abspath(os.fsdecode(path)))


_OPENED = _Opened()


@contextmanager
def recording(folder: Path, reads: Reads) -> Iterator[None]:
    """Add what the block opens and what is imported at its end; ``folder`` is the model's."""
    paths: set[str] = set()
    _OPENED.begin(paths)
    try:
        yield
    finally:
        _OPENED.notes.remove(paths)
        modules = _modules()
        paths.update(modules.values())
        reads.libraries |= _libraries(modules)
        kept = (path for path in paths if _is_users(path) and os.path.isfile(path))
        reads.files |= {_named(path, folder) for path in kept}


def _modules() -> dict[str, str]:
    """Files of all modules that are imported."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            found[name] = os.path.abspath(path)
    return found


def _libraries(modules: Mapping[str, str]) -> set[str]:
    """Distributions of the imported modules that are installed."""
    owners = importlib.metadata.packages_distributions()
    tops = {name.partition(".")[0] for name, path in modules.items() if _is_installed(path)}
    return {owner for top in tops for owner in owners.get(top, ())}


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    """Folders whose files follow from versions: of Python, of libraries, of cspbench."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = str(Path(__file__).parents[1])
    return tuple({os.path.abspath(sysconfig.get_path(name)) + os.sep for name in names}
                 | {own + os.sep})  # fmt: skip


def _is_installed(path: str) -> bool:
    parts = path.split(os.sep)
    return path.startswith(_installed_folders()) or "site-packages" in parts


def _is_users(path: str) -> bool:
    """Whether a file can change without a version changing."""
    system = path.startswith(("/proc/", "/sys/", "/dev/", "/etc/", f"{cache_folder()}{os.sep}"))
    return not (system or _is_installed(path) or "__pycache__" in path.split(os.sep))


def _named(path: str, folder: Path) -> str:
    own = os.path.abspath(folder)
    below = os.path.commonpath([path, own]) == own
    return os.path.relpath(path, own) if below else path
