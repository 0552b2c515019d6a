"""The file of a campaign: one JSON object a line, resumable, kept compressed in ``data``."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path


def packed(file: Path) -> Path:
    """Path of a campaign's compressed file."""
    return Path(__file__).parent / "data" / f"{file.name}.gz"


def rows_of(file: Path) -> list[dict]:
    """Rows of a campaign, unpacked if needed. An incomplete last line is left out."""
    if not file.exists() and packed(file).exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.decompress(packed(file).read_bytes()))
    rows = []
    for line in file.read_bytes().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def append(file: Path, row: dict) -> None:
    """Add one line, which is on disk when this returns."""
    torn = file.exists() and not file.read_bytes().endswith(b"\n")  # by a kill
    with file.open("a") as out:
        out.write("\n" * torn + json.dumps(row) + "\n")
        out.flush()
        os.fsync(out.fileno())


def pack(file: Path) -> None:
    """Compress the campaign's file. Equal rows give equal bytes."""
    target = packed(file)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    print(target)
