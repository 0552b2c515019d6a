"""Where the stored runs lie, and whether one has changed since the site read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cspbench
from cspbench.core.text import slug
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE

#: Form of the summaries; another one is read from the runs again.
FORM = 2


@dataclass(frozen=True)
class Source:
    """A stored run: its directory, its path below the archive, and what changes when it does."""

    path: Path
    name: str
    version: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the run's files in the site."""
        return slug(self.name)


def sources(results: Path) -> list[Source]:
    """The runs below a directory, however deep; links are not followed."""
    return sorted(_below(results), key=lambda one: one.name)


def _below(results: Path) -> Iterator[Source]:
    for folder, names, files in os.walk(results):
        if RUN_FILE not in files:
            continue
        names.clear()  # a run holds no runs
        path = Path(folder)
        version = (str(FORM), cspbench.__version__, *map(_state, _files(path)))
        yield Source(path, path.relative_to(results).as_posix(), version)


def _files(path: Path) -> Iterator[Path]:
    yield from (path / RUN_FILE, path / LAUNCHES_FILE)


def _state(file: Path) -> str:
    try:
        facts = file.lstat()
    except OSError:
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"
