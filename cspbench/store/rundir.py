"""A run on disk: ``run.json`` (plan, environment, analyses) and ``launches.jsonl`` (append-only).

A reported launch is on disk: each line is flushed and fsynced before the next launch starts, and
carries a checksum. A torn last line is dropped; a damaged line in the middle is skipped and named.
All readers of runs use :func:`read_run`, which treats every run as untrusted: it bounds sizes and
checks the type of every value.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.files import new_folder, no_follow, refuse_link, sync_directory, write_whole
from cspbench.core.garbage import without_collections
from cspbench.errors import InputError, StoreError
from cspbench.store.lines import MAX_CASES, Json, decode_line, encode_line, parse_run
from cspbench.store.migrate import FORMAT, migrate

if TYPE_CHECKING:
    from cspbench.store.launch import Launch

RUN_FILE = "run.json"
LAUNCHES_FILE = "launches.jsonl"
#: What is complete of the block under way, as lines of launches.
BLOCK_FILE = "block.jsonl"
#: Larger files are refused, because reading them could exhaust the memory.
MAX_RUN_BYTES = 64 * 2**20
MAX_LAUNCHES_BYTES = 2**30
#: Lines of a file of launches.
MAX_LINES = 1_000_000
#: How many problems of a run are named.
MAX_PROBLEMS = 100
#: Longer durations of launches (thirty years) are malformed.
MAX_SECONDS = 1e9


@dataclass
class StoredRun:
    """A run as read: metadata, launches in order, and problems of its files."""

    path: Path
    meta: Json
    launches: list[Launch]
    problems: list[str] = field(default_factory=list)


@dataclass
class RawRun:
    """``run.json`` and the intact lines of a run, unchecked, and problems of the other lines."""

    meta: Json
    launches: list[Json]
    problems: list[str]


class RunDirectory:
    """The only writer of a run on disk; every method leaves the directory readable.

    Several threads may use it, as the sessions of a fleet's boards do; a lock orders their writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / LAUNCHES_FILE
        self._lock = threading.RLock()

    @staticmethod
    def create(out: Path, name: str, meta: Json) -> RunDirectory:
        """Make ``out/name`` (or ``name-2`` ...) with its ``run.json``.

        Raises:
            InputError: the directory cannot be made or written, or the run has too many cases.
        """
        if len(meta.get("cases", ())) > MAX_CASES:
            raise InputError(
                f"the run would have {len(meta['cases']):,} cases, and at most {MAX_CASES:,} are "
                "read again: split the suite (--only), or name fewer devices"
            )
        try:
            path = new_folder(out, name)
            run = RunDirectory(path)
            run._file.touch()
            run.meta = {"format": FORMAT, "run": path.name, **meta}
            run._write_meta(run.meta)
            sync_directory(out)
        except OSError as error:
            raise InputError(f"cannot write a run under {out}: {error.strerror}") from error
        return run

    @functools.cached_property
    def meta(self) -> Json:
        """Content of ``run.json``, for reading; only `update` changes it."""
        return read_run(self.path).meta

    def begin_session(self) -> None:
        """Forget the facts of the last session: how many rounds its budget allowed.

        Raises:
            InputError: the run is a link to a directory elsewhere.
        """
        try:
            refuse_link(self.path)
        except OSError as error:
            raise InputError(f"cannot continue {self.path}: {error.strerror}") from None
        self.meta.pop("rounds_in_budget", None)

    def update(self, change: Callable[[Json], object]) -> None:
        """Apply ``change`` to the content of ``run.json``, and write it.

        Raises:
            StoreError: it cannot be written; the old file remains.
        """
        with self._lock:
            change(self.meta)
            try:
                self._write_meta(self.meta)
            except OSError as error:
                raise self._unwritable(RUN_FILE, error) from error

    def _write_meta(self, meta: Json) -> None:
        text = json.dumps(meta, indent=1, allow_nan=False)
        write_whole(self.path / RUN_FILE, text.encode(), sync=True)

    def append(self, launch: Json) -> None:
        """Add one launch; on return it is on disk.

        Raises:
            StoreError: it cannot be written (the disk is full, the directory is gone, the run
                is as large as a run may be).
            ValueError: it would not be read (`encode_line`).
        """
        try:
            # Not created here: a directory that was moved away must not reappear half empty.
            # Not buffered: after an error a buffer would be written again when the file is closed.
            with self._lock, open(self._file, "r+b", buffering=0, opener=no_follow) as file:
                end = file.seek(0, os.SEEK_END)
                # A torn line of a killed run stays one damaged line.
                start = b"\n" if end and not _ends_with_newline(file) else b""
                line = start + encode_line(launch)
                self._check_size(end + len(line))
                try:
                    _write_all(file, line)
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):  # remove the half line
                        file.truncate(end)
                    raise
        except OSError as error:
            raise self._unwritable(LAUNCHES_FILE, error) from error

    def keep_block(self, launches: Sequence[Json]) -> None:
        """Hold what a block under way has found, in place of what was held before.

        It is worth a line only if this process is killed: where it cannot be written, measuring
        goes on without.
        """
        with contextlib.suppress(OSError, ValueError):
            write_whole(self.path / BLOCK_FILE, b"".join(map(encode_line, launches)))

    def drop_block(self) -> None:
        """The block's launches are stored; what `keep_block` held is not needed any more."""
        with contextlib.suppress(OSError):
            (self.path / BLOCK_FILE).unlink(missing_ok=True)

    def recover_block(self) -> None:
        """Add what a killed session had held of its last block to the launches.

        Raises:
            StoreError: it cannot be written.
        """
        if self.path.is_symlink():  # `begin_session` refuses it
            return
        problems: list[str] = []  # a damaged line is a launch that is measured again
        try:
            kept = list(_launches(self.path / BLOCK_FILE, problems))
            stored = {_place(launch) for launch in _launches(self._file, problems)}
        except (OSError, ValueError):
            return
        for launch in kept:
            if _place(launch) not in stored:
                self.append(launch)
        self.drop_block()

    def _check_size(self, size: int) -> None:
        """Refuse to write a file that would not be read."""
        if size > MAX_LAUNCHES_BYTES:
            raise StoreError(
                f"{self._file} would grow beyond {MAX_LAUNCHES_BYTES // 2**20} MiB, and no larger "
                "run is read; earlier launches are kept: measure the rest in a new run"
            )

    def _unwritable(self, name: str, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write {self.path / name}: {error.strerror}; earlier launches are kept: free "
            f"some space (or move the directory) and continue with: "
            f"cspbench run --resume {self.path}"
        )


def _place(launch: Json) -> str:
    """What no two launches of a run have in common."""
    return json.dumps([launch.get(key) for key in ("session", "case", "number", "job")])


def _write_all(file: RawIOBase, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


def _ends_with_newline(file: RawIOBase) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _launches(path: Path, problems: list[str]) -> Iterator[Json]:
    for number, line in enumerate(_lines(path), start=1):
        text = line.removesuffix(b"\n")
        if not text:
            continue
        try:
            yield decode_line(text)
        except ValueError:
            whole = len(text) < len(line)
            what = "damaged, skipped" if whole else "cut off in writing, dropped"
            _note(problems, f"{path}:{number}: {what}")


def _note(problems: list[str], problem: str) -> None:
    """Add a problem; a file may have millions."""
    if len(problems) < MAX_PROBLEMS:
        problems.append(problem)
    elif len(problems) == MAX_PROBLEMS:
        problems.append(f"there are more than {MAX_PROBLEMS} problems; the others are not named")


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a file of launches, one after the other: never all of them at once.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too large.
    """
    with open(path, "rb", opener=no_follow) as file:
        if os.fstat(file.fileno()).st_size > MAX_LAUNCHES_BYTES:
            raise ValueError(f"larger than {MAX_LAUNCHES_BYTES // 2**20} MiB")
        for number, line in enumerate(file):
            if number == MAX_LINES:
                raise ValueError(f"it has more than {MAX_LINES:,} lines")
            yield line


def _read(path: Path, limit: int) -> bytes:
    with open(path, "rb", opener=no_follow) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit // 2**20} MiB")
    return content


def read_lines(path: Path) -> RawRun:
    """Read a run directory without checking values; only for its repair.

    Raises:
        InputError: the path is no run, or a run of a newer format.
    """
    problems: list[str] = []
    file = path / RUN_FILE
    try:
        meta = parse_run(_read(file, MAX_RUN_BYTES))
        if not isinstance(meta, dict) or type(meta.get("format")) is not int:
            raise InputError(f"{file} does not describe a run: it has no format number")
        if meta["format"] > FORMAT:
            raise InputError(
                f"{path} has run format {meta['format']}, this cspbench reads up to {FORMAT}: "
                "upgrade"
            )
        file = path / LAUNCHES_FILE
        launches = list(_launches(file, problems)) if file.exists() else []
    except FileNotFoundError:
        raise InputError(f"{path} is not a run: it has no {RUN_FILE}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    return RawRun(meta, launches, problems)


# Collections over millions of new objects, which stay and have no cycles, would take three quarters
# of the time.
@without_collections()
def read_run(path: Path) -> StoredRun:
    """Read and check a run directory, which may be untrusted; older formats are migrated.

    Malformed launches are left out and named in ``problems``.

    Raises:
        InputError: the path is no run, its format is newer, or ``run.json`` is malformed.
    """
    from cspbench.store.launch import read_launch  # plans go without
    from cspbench.store.schema import check_meta

    raw = read_lines(path)
    problems = raw.problems
    try:
        meta = check_meta(migrate(raw.meta))
    except ValueError as error:
        raise InputError(f"{path / RUN_FILE} does not describe a run: {error}") from None
    launches = []
    for number, line in enumerate(raw.launches):
        try:
            launches.append(read_launch(line))
        except ValueError as error:
            _note(problems, f"{path}: launch {number} is malformed, skipped: {error}")
    return StoredRun(path, {**meta, "run": meta["run"] or path.name}, launches, problems)


def check_analyses(run: StoredRun) -> None:
    """Check the layers of a run's analyses; `read_run` does not, because it takes long.

    Raises:
        InputError: a layer is malformed.
    """
    from cspbench.analysis.record import check_stored

    for model, analysis in run.meta["analyses"].items():
        try:
            check_stored(analysis)
        except ValueError as error:
            problem = f"analyses.{model[:80]}: {error}"
            raise InputError(f"{run.path / RUN_FILE} does not describe a run: {problem}") from None


def past_seconds(path: Path) -> Iterator[tuple[str, float]]:
    """Case id and duration in seconds of every timing launch in the file.

    For estimates only, at a tenth of the cost of ``read_run``: ``run.json`` is not opened, only
    these two values of a launch are checked, and unreadable lines are skipped.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in _lines(path / LAUNCHES_FILE):
            if b'"time"' not in line:  # skips the longest lines, those of other jobs
                continue
            with contextlib.suppress(ValueError):
                launch = decode_line(line.removesuffix(b"\n"))
                case, seconds = launch.get("case"), launch.get("seconds")
                if launch.get("job") != "time" or not isinstance(case, str):
                    continue
                if isinstance(seconds, float | int) and 0 <= seconds < MAX_SECONDS:
                    yield case, float(seconds)


def find_run(argument: str, out: Path) -> Path:
    """Find a run by path, by name under ``out``, or as ``latest``.

    Raises:
        InputError: the run does not exist.
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
    """Run directories directly under ``out``, oldest first (names start with the time).

    One that is a link is left out: it is read only by its name.
    """
    found = (path.parent for path in out.glob(f"*/{RUN_FILE}"))
    return sorted(path for path in found if not path.is_symlink())
