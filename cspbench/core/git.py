"""Git, asked only for what cannot run code: names of commits, and the content of their files.

Git obeys the configuration of the folder that it stands in, and an untrusted folder may be a
repository, or hold one. Every call here switches off what would run a program (file system
monitors, hooks, helpers of transports), takes no bare repository that it was not pointed at, and
fetches nothing. Files of a commit are read as they were committed (``cat-file``), so no filter of
the configuration sees them: files of Git LFS stay pointers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cspbench.core.programs import find_program, search_path
from cspbench.errors import InputError

_SAFE = tuple(
    word
    for setting in (
        "safe.bareRepository=explicit", "core.fsmonitor=false", "core.hooksPath=/dev/null",
        "core.pager=cat", "protocol.allow=never", "protocol.ext.allow=never",
    )
    for word in ("-c", setting)
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
    # A commit is what its id says: nothing stands in for it, and its parents are its own.
    "GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull,
}  # fmt: skip
_SECONDS = 120
#: Modes of a tree's entries: a link, and a commit of another repository.
_LINK, _SUBMODULE = b"120000", b"160000"


def _run(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    """Output of a git command in ``folder``; None if it fails."""
    git = find_program("git")
    if git is None:
        return None
    try:
        result = subprocess.run(
            [git, *_SAFE, "-C", str(folder), *arguments],
            input=stdin, capture_output=True, timeout=_SECONDS, check=False,
            env={**os.environ, **_ENVIRONMENT, "PATH": search_path()},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _line(folder: Path, *arguments: str) -> str | None:
    output = _run(folder, *arguments)
    return None if output is None else os.fsdecode(output.rstrip(b"\n")) or None


def repository_of(path: Path) -> Path | None:
    """Top folder of the repository that holds ``path``; None if no repository holds it."""
    top = _line(path.resolve().parent, "rev-parse", "--show-toplevel")
    return Path(top).resolve() if top else None


def commit_of(repository: Path, ref: str = "HEAD") -> str | None:
    """Full commit id that ``ref`` names; None if it names no commit."""
    # --end-of-options: a ref that begins with a dash is no option.
    return _line(
        repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
    )


def has_file(repository: Path, commit: str, path: PurePosixPath) -> bool:
    """Whether ``commit``, a full id, holds ``path``, which is relative to the top folder."""
    return _run(repository, "cat-file", "-e", f"{commit}:{path}") is not None


@contextlib.contextmanager
def tree_of(repository: Path, commit: str, place: Path | None = None) -> Iterator[Path]:
    """The files of ``commit`` in a folder, which is removed at the end.

    Links that lead out of the tree, and other repositories within it, are left out.

    Args:
        repository: its top folder.
        commit: a full commit id.
        place: the folder, unless another process has it or without a place: a temporary one.

    Raises:
        InputError: git cannot read the commit.
    """
    with contextlib.ExitStack() as stack:
        if place is None or not _own(place, stack):
            place = Path(tempfile.mkdtemp(prefix="cspbench-gate-")).resolve()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        _extract(repository, commit, place)
        yield place


def _own(place: Path, stack: contextlib.ExitStack) -> bool:
    """Make an empty folder there, this process's until the stack ends; False if one has it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context(place.with_name(f"{place.name}.lock").open("ab"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another gate has it, or the file system knows no locks
        return False
    shutil.rmtree(place, ignore_errors=True)  # a gate that was killed left it
    place.mkdir(exist_ok=True)
    return True


def _extract(repository: Path, commit: str, folder: Path) -> None:
    listing = _run(repository, "ls-tree", "-r", "-z", "--full-tree", commit)
    if listing is None:
        raise InputError(f"git cannot read {commit[:12]} of {repository}")
    entries = []
    for entry in filter(None, listing.split(b"\0")):
        facts, _, name = entry.partition(b"\t")
        mode, _, blob = facts.split(b" ")
        parts = PurePosixPath(os.fsdecode(name)).parts
        if mode != _SUBMODULE and not {"..", ".git", "/"} & {part.lower() for part in parts}:
            entries.append((mode, blob, folder.joinpath(*parts)))
    contents = _contents(repository, [blob for _, blob, _ in entries])
    if contents is None:
        raise InputError(f"git cannot read the files of {commit[:12]} of {repository}")
    for mode, blob, path in sorted(entries, key=lambda one: one[0] == _LINK):  # links come last
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode != _LINK:
            path.write_bytes(contents[blob])
            path.chmod(0o755 if mode.endswith(b"755") else 0o644)
        elif (path.parent / os.fsdecode(contents[blob])).resolve().is_relative_to(folder):
            path.symlink_to(os.fsdecode(contents[blob]))


def _contents(repository: Path, blobs: list[bytes]) -> dict[bytes, bytes] | None:
    """Blobs by their ids. ``cat-file --batch`` prints a head line, the bytes and a newline."""
    output = _run(repository, "cat-file", "--batch", stdin=b"".join(b + b"\n" for b in blobs))
    if output is None:
        return None
    contents, at = {}, 0
    for blob in blobs:
        end = output.index(b"\n", at)
        head = output[at:end].split(b" ")
        if len(head) != 3:  # "... missing": a partial clone, and nothing is fetched
            return None
        at = end + 1 + int(head[2])
        contents[blob] = output[end + 1 : at]
        at += 1
    return contents
