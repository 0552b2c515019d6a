"""Check a run directory, and repair what can be repaired: nothing that was measured is thrown away.

A damaged line of ``launches.jsonl`` cannot be trusted (its checksum says so) and cannot be rebuilt;
repairing moves it, as it is, to ``launches.damaged``, so that the run reads without complaint and
``--resume`` measures again what is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cspbench.store.rundir import (
    LAUNCHES_FILE,
    check_analyses,
    decode_line,
    read_lines,
    read_run,
    replace_file,
)

DAMAGED_FILE = "launches.damaged"


@dataclass(frozen=True)
class Health:
    """What was found: readable launches, problems in words, and whether repairing helps."""

    launches: int
    problems: tuple[str, ...]
    repairable: bool


def check(path: Path) -> Health:
    """Read everything and compare it with the plan.

    Raises:
        InputError: not a run: ``run.json`` is missing or broken, which cannot be repaired.
    """
    damaged = read_lines(path).problems
    stored = read_run(path)
    check_analyses(stored)
    problems = list(stored.problems)
    repairable = bool(damaged)
    planned = {case["id"] for case in stored.meta["cases"]}
    strangers = sorted({launch.case for launch in stored.launches} - planned)
    problems += [f"{path / LAUNCHES_FILE}: {case} was not planned" for case in strangers]
    seen: set[tuple[str, int]] = set()
    for launch in stored.launches:
        key = (launch.case, launch.number)
        if key in seen:
            problems.append(f"{path / LAUNCHES_FILE}: launch {key[1]} of {key[0]} is there twice")
        seen.add(key)
    return Health(len(stored.launches), tuple(problems), repairable)


def repair(path: Path) -> int:
    """Move damaged lines out of ``launches.jsonl``; return how many."""
    file = path / LAUNCHES_FILE
    good, damaged = [], []
    for line in file.read_bytes().split(b"\n"):
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
    with (path / DAMAGED_FILE).open("ab") as kept:
        kept.write(b"".join(line + b"\n" for line in damaged))
        kept.flush()
        os.fsync(kept.fileno())
    replace_file(file, b"".join(line + b"\n" for line in good))
    return len(damaged)
