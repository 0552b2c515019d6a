"""The user's cache folder, which no other user may write.

It holds programs (exported models, compiled kernels, environments), so that a file which another
user puts there would run as ours.
"""

from __future__ import annotations

import functools
import os
import stat
import tempfile
from pathlib import Path

from cspbench.core.output import say
from cspbench.errors import InputError


def cache_folder(*names: str) -> Path:
    """``$CSPBENCH_CACHE``, or the user's cache folder for cspbench, or a folder in it; absolute.

    Raises:
        InputError: others may write there, or in a folder above it up to the home directory or a
            folder such as /tmp, where each user's files are safe from others.
    """
    named = os.environ.get("CSPBENCH_CACHE")
    variables = (os.environ.get("HOME"), os.environ.get("XDG_CACHE_HOME"))
    root = Path(named) if named else _own_folder(variables, tempfile.gettempdir())
    folder = os.path.abspath(root.joinpath(*names))
    _check(folder, len(names) + 1)
    return Path(folder)


@functools.lru_cache(maxsize=8)
def _own_folder(_variables: tuple[str | None, ...], temporary: str) -> Path:
    """The user's cache folder, by the environment, or one below the temporary folder.

    The latter where the first cannot be used: without a home directory, with one that is
    read-only, and with one of another user (as under sudo). One sentence says so.
    """
    # Imported here, because the environment of a worker may hold nothing but its backend.
    import platformdirs

    own = Path(platformdirs.user_cache_dir("cspbench"))
    why = _unusable(own)
    if not why:
        return own
    fallback = Path(temporary) / f"cspbench-{os.getuid()}"
    say(
        f"note: {own} cannot be the cache, because {why}; it lies in {fallback} instead. Name "
        "another folder in CSPBENCH_CACHE to keep it",
        err=True,
    )
    return fallback


def nearest_existing(folder: Path) -> Path:
    """The folder, or the first above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _unusable(folder: Path) -> str:
    """Why a folder cannot be made or written, or is not safe; empty if it can be used."""
    if not folder.is_absolute():  # "~" stays where no home directory is known
        return "there is no home directory"
    nearest = nearest_existing(folder)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written"
    facts = nearest.stat()
    if nearest == folder and facts.st_uid != os.getuid():
        return f"it belongs to {_user_name(facts.st_uid)}"
    return ""


def make_cache_folder(folder: Path) -> None:
    """Make a folder of the cache, and those above it that are missing, for the user alone.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.parent.exists():
        make_cache_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


@functools.lru_cache(maxsize=1024)  # every case asks
def _check(folder: str, depth: int) -> None:
    """Check a folder and those above it; the lowest ``depth`` of them have to be ours."""
    for path in dict.fromkeys((folder, os.path.realpath(folder))):  # links may lead elsewhere
        _check_path(Path(path), depth)


def _check_path(folder: Path, depth: int) -> None:
    home = _home()
    for number, path in enumerate((folder, *folder.parents)):
        if path == home and number >= depth:
            return
        try:
            facts = path.lstat()
        except OSError:  # it does not exist yet, and those above it decide who can make it
            continue
        ours = number < depth
        why = _foreign(facts, ours=ours)
        if why:
            raise InputError(
                f"the cache {folder} is not safe: {path} {why}, and a cache holds programs. Make "
                f"that folder your own (chmod go-w {path}), or name another one in CSPBENCH_CACHE"
            )
        if not ours and facts.st_mode & stat.S_ISVTX:
            return


def _foreign(facts: os.stat_result, *, ours: bool) -> str:
    """Who else may change what a path means; empty if no other user can."""
    user = os.getuid()
    if facts.st_uid != user and (ours or facts.st_uid != 0):
        return f"belongs to {_user_name(facts.st_uid)}"
    if stat.S_ISLNK(facts.st_mode):  # the mode of a link means nothing
        return ""
    if not ours and facts.st_mode & stat.S_ISVTX:
        return ""
    if facts.st_mode & stat.S_IWOTH:
        return "may be written by every user"
    if facts.st_mode & stat.S_IWGRP and not _is_own_group(facts.st_gid, user):
        return f"may be written by the group {_group_name(facts.st_gid)}"
    return ""


def _is_own_group(group: int, user: int) -> bool:
    """Whether a group has no other member: many systems give each user a group of that name."""
    import grp
    import pwd

    if group == 0:  # root can write everywhere
        return True
    try:
        entry, person = grp.getgrgid(group), pwd.getpwuid(user)
    except KeyError:
        return False
    own = person.pw_gid == group and entry.gr_name == person.pw_name
    return own and set(entry.gr_mem) <= {person.pw_name}


def _home() -> Path | None:
    try:
        return Path(os.path.abspath(Path.home()))
    except RuntimeError:  # no such user
        return None


def _user_name(user: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the user {user}"


def _group_name(group: int) -> str:
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
