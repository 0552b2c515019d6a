"""A run on disk: ``run.json`` (what was planned, where) and ``launches.jsonl`` (append-only).

A launch that was reported is on disk, whatever happens next: each line is flushed and fsynced
before the next launch starts, and carries a checksum. A torn last line is dropped; a damaged line
in the middle is skipped and named.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cspbench.errors import InputError, StoreError

FORMAT = 1
RUN_FILE = "run.json"
LAUNCHES_FILE = "launches.jsonl"

Json = dict[str, Any]


@dataclass
class StoredRun:
    """A run as read: metadata, launches in order, and what was wrong with the file."""

    path: Path
    meta: Json
    launches: list[Json]
    problems: list[str] = field(default_factory=list)


class RunDirectory:
    """Writes one run; every method leaves the directory readable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / LAUNCHES_FILE

    @staticmethod
    def create(out: Path, name: str, meta: Json) -> RunDirectory:
        """Make ``out/name`` (or ``name-2`` ...) with its ``run.json``.

        Raises:
            InputError: the directory cannot be made or written.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
            path = _fresh(out, name)
            run = RunDirectory(path)
            run.write_meta({"format": FORMAT, "run": path.name, **meta})
            run._file.touch()
        except OSError as error:
            raise InputError(f"cannot write a run under {out}: {error.strerror}") from error
        return run

    def write_meta(self, meta: Json) -> None:
        """Replace ``run.json`` as a whole."""
        temporary = self.path / f"{RUN_FILE}.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(meta, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / RUN_FILE)

    def append(self, launch: Json) -> None:
        """Add one launch; on return it is on disk.

        Raises:
            StoreError: it cannot be written (the disk is full, the directory is gone).
        """
        try:
            with self._file.open("ab") as file:
                if file.tell() and not _ends_with_newline(self._file):
                    file.write(b"\n")  # a torn line of a killed run stays one damaged line
                file.write(encode_line(launch))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"cannot write {self._file}: {error.strerror}; what was measured before is kept: "
                f"make room (or move the directory) and go on with: "
                f"cspbench run --resume {self.path}"
            ) from error


def _fresh(out: Path, name: str) -> Path:
    number = 1
    while True:
        path = out / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def encode_line(launch: Json) -> bytes:
    """One line: CRC-32 of the JSON text in eight hexadecimal digits, a space, the text."""
    text = json.dumps(launch, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode_line(line: bytes) -> Json:
    """Inverse of :func:`encode_line`.

    Raises:
        ValueError: the line is torn or damaged.
    """
    checksum, _, text = line.partition(b" ")
    if len(checksum) != 8 or int(checksum, 16) != zlib.crc32(text):
        raise ValueError("checksum does not match")
    try:
        launch = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(launch, dict):
        raise ValueError("not an object")
    return launch


def _launches(path: Path, problems: list[str]) -> Iterator[Json]:
    lines = path.read_bytes().split(b"\n")
    if not lines[-1]:  # as it should be: the last line has its newline
        lines.pop()
        torn = 0
    else:
        torn = len(lines)
    for number, line in enumerate(lines, start=1):
        if not line:  # nothing in it was lost
            continue
        try:
            yield decode_line(line)
        except ValueError:
            what = "cut off in writing, dropped" if number == torn else "damaged, skipped"
            problems.append(f"{path}:{number}: {what}")


def read_run(path: Path) -> StoredRun:
    """Read a run directory.

    Raises:
        InputError: no run there, or one of a newer format.
    """
    try:
        meta = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not a run: it has no {RUN_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path / RUN_FILE} cannot be read: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
        raise InputError(f"{path / RUN_FILE} is not the description of a run")
    if meta["format"] > FORMAT:
        raise InputError(
            f"{path} has run format {meta['format']}, this cspbench reads up to {FORMAT}: upgrade"
        )
    problems: list[str] = []
    file = path / LAUNCHES_FILE
    launches = list(_launches(file, problems)) if file.exists() else []
    return StoredRun(path, meta, launches, problems)


def find_run(argument: str, out: Path) -> Path:
    """A run by path, by name under ``out``, or ``latest``.

    Raises:
        InputError: there is none.
    """
    path = Path(argument)
    if _is_run(path):
        return path
    runs = list_runs(out)
    if argument == "latest" and runs:
        return runs[-1]
    if _is_run(out / argument):
        return out / argument
    known = ", ".join(run.name for run in runs[-3:]) or "none"
    raise InputError(f"there is no run {argument!r} (newest under {out}: {known})")


def _is_run(path: Path) -> bool:
    try:
        return (path / RUN_FILE).exists()
    except OSError:  # a text that cannot be a path: too long
        return False


def list_runs(out: Path) -> list[Path]:
    """Run directories directly under ``out``, oldest first (names start with the time)."""
    return sorted(path.parent for path in out.glob(f"*/{RUN_FILE}"))
