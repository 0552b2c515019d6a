"""Reads files under ``/sys``, ``/proc`` and ``/etc`` that hold one text or number.

A missing, unreadable or malformed file gives None (unknown), never an error and never 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_CPU0_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def read_text(path: Path | str) -> str | None:
    """Text of a file without its line end and zero bytes; None if it is empty or unreadable."""
    try:
        return Path(path).read_text(errors="replace").strip("\x00\n ") or None
    except OSError:
        return None


def read_number(path: Path | str) -> float | None:
    """The number at the start of a file; None without one."""
    try:
        return float((read_text(path) or "").split()[0])
    except (ValueError, IndexError):
        return None


def cache_sizes(folder: Path = _CPU0_CACHES) -> Iterator[tuple[str, int]]:
    """Level (``L1d``, ``L2``, ``L3``) and bytes of the data caches of processor 0."""
    for index in sorted(folder.glob("index*")):
        kind, level, size = (read_text(index / name) for name in ("type", "level", "size"))
        if kind is not None and kind != "Instruction" and level and size:
            number = int(size.rstrip("KM")) * (2**20 if size.endswith("M") else 2**10)
            yield f"L{level}{'d' if kind == 'Data' else ''}", number
