"""Checks a run directory and repairs it without throwing away measurements.

A damaged line of ``launches.jsonl`` has a wrong checksum and cannot be rebuilt. Repairing moves it
unchanged to ``launches.damaged``. After that the run reads without problems, and ``--resume``
measures the missing launches again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cspbench.core.files import no_follow, refuse_link, write_whole
from cspbench.errors import InputError
from cspbench.store.lines import decode_line
from cspbench.store.rundir import LAUNCHES_FILE, check_analyses, read_lines, read_run

DAMAGED_FILE = "launches.damaged"


@dataclass(frozen=True)
class FsckReport:
    """Number of readable launches, problems as sentences, and whether repairing helps."""

    launches: int
    problems: tuple[str, ...]
    repairable: bool


def check(path: Path) -> FsckReport:
    """Read the whole run and compare it with its plan.

    Raises:
        InputError: ``run.json`` is missing or malformed, which cannot be repaired.
    """
    damaged = read_lines(path).problems
    stored = read_run(path)
    check_analyses(stored)
    problems = list(stored.problems)
    repairable = bool(damaged)
    planned = {case["id"] for case in stored.meta["cases"]}
    unplanned = sorted({launch.case for launch in stored.launches} - planned)
    problems += [f"{path / LAUNCHES_FILE}: {case} was not planned" for case in unplanned]
    seen: set[tuple[str, int]] = set()
    for launch in stored.launches:
        key = (launch.case, launch.number)
        if key in seen:
            problems.append(f"{path / LAUNCHES_FILE}: launch {key[1]} of {key[0]} occurs twice")
        seen.add(key)
    return FsckReport(len(stored.launches), tuple(problems), repairable)


def repair(path: Path) -> int:
    """Move damaged lines out of ``launches.jsonl``; return how many.

    Raises:
        InputError: a file of the run is no regular file, or cannot be written.
    """
    try:
        return _repair(path)
    except OSError as error:
        raise InputError(f"cannot repair {path}: {error.strerror or error}") from error


def _repair(path: Path) -> int:
    file = path / LAUNCHES_FILE
    refuse_link(path)
    with open(file, "rb", opener=no_follow) as lines:
        content = lines.read()
    good, damaged = [], []
    for line in content.split(b"\n"):
        if not line:
            continue
        try:
            decode_line(line)
        except ValueError:
            damaged.append(line)
        else:
            good.append(line)
    if not damaged:
        return 0
    with open(path / DAMAGED_FILE, "ab", opener=no_follow) as kept:
        kept.write(b"".join(line + b"\n" for line in damaged))
        kept.flush()
        os.fsync(kept.fileno())
    write_whole(file, b"".join(line + b"\n" for line in good), sync=True)
    return len(damaged)
