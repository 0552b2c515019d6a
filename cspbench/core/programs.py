"""Programs by name, never from the working directory."""

from __future__ import annotations

import os
import shutil


def search_path() -> str:
    """``PATH`` without relative and empty entries, which mean the working directory."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.isabs(entry))


def find_program(name: str) -> str | None:
    """The path of a program; None if there is none of this name."""
    return shutil.which(name, path=search_path())
