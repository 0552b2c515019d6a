"""The file of a campaign: one JSON object a line, resumable, kept compressed in ``data``."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import os
from collections.abc import Callable
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


def command_line(doc: str | None, file: str) -> argparse.ArgumentParser:
    """What every campaign may be asked: run, report or pack, its file and its time."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "report", "pack"))
    parser.add_argument("--file", type=Path, default=Path("results") / file)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no trial after them")
    return parser


def do(
    arguments: argparse.Namespace,
    run: Callable[[argparse.Namespace], None],
    report: Callable[[Path], None],
) -> None:
    """Do what was asked."""
    if arguments.what == "run":
        run(arguments)
    elif arguments.what == "report":
        report(arguments.file)
    else:
        pack(arguments.file)
