"""Limits that control groups set: processors and memory, in both versions, however deep.

A limit of any group above a process's own holds too, so the smallest counts. Inside a container the
path of the group may be the host's and not exist here; then the groups that do exist count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cspbench.machine.sysfs import read_number, read_text

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
#: Version 1 writes "no limit" as a number of bytes near 2**63.
_UNLIMITED = 1 << 60


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """Processors that a process may use on average, None without a limit."""
    quotas = [_quota_v2(folder) for folder in _groups_v2(root, own)]
    quotas += [_quota_v1(folder) for folder in _groups_v1(root, own, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """Bytes that a process and its group may have, None without a limit."""
    stated = [read_number(folder / "memory.max") for folder in _groups_v2(root, own)]
    stated += [
        read_number(folder / "memory.limit_in_bytes") for folder in _groups_v1(root, own, "memory")
    ]
    limits = [int(limit) for limit in stated if limit is not None and limit < _UNLIMITED]
    return min(limits, default=None)


def memory_left(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """Bytes that a process and its group may still take, None without a limit.

    Pages of files that were not used lately do not count as taken: the kernel gives them back.
    """
    left = [_left(folder, "max", "current", "") for folder in _groups_v2(root, own)]
    left += [
        _left(folder, "limit_in_bytes", "usage_in_bytes", "total_")
        for folder in _groups_v1(root, own, "memory")
    ]
    return min((size for size in left if size is not None), default=None)


def _left(folder: Path, limit: str, used: str, prefix: str) -> int | None:
    most = read_number(folder / f"memory.{limit}")
    taken = read_number(folder / f"memory.{used}")
    if most is None or taken is None or most >= _UNLIMITED:
        return None
    lines = (line.partition(" ") for line in (read_text(folder / "memory.stat") or "").splitlines())
    stated = {name: int(value) for name, _, value in lines if value.isdecimal()}
    return max(0, int(most - taken) + stated.get(f"{prefix}inactive_file", 0))


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = (read_text(folder / "cpu.max") or "max").partition(" ")
    return _processors(quota, period or "100000")


def _quota_v1(folder: Path) -> float | None:
    quota, period = (read_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return _processors(quota or "-1", period or "100000")


def _processors(quota: str, period: str) -> float | None:
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _groups_v2(root: Path, own: Path) -> Iterator[Path]:
    hierarchy = root / "unified" if (root / "unified").is_dir() else root
    path = next((path for number, _, path in memberships(own) if number == "0"), "/")
    yield from _up(hierarchy, path)


def _groups_v1(root: Path, own: Path, controller: str) -> Iterator[Path]:
    named = [(names, path) for _, names, path in memberships(own) if controller in names.split(",")]
    names, path = named[0] if named else (controller, "/")
    for folder in dict.fromkeys((names, controller, ",".join(reversed(names.split(","))))):
        if (root / folder).is_dir():
            yield from _up(root / folder, path)
            return


def memberships(own: Path) -> list[tuple[str, str, str]]:
    """Number, controllers and path of each hierarchy that a process is in."""
    split = [line.split(":", 2) for line in (read_text(own) or "").splitlines()]
    return [(parts[0], parts[1], parts[2]) for parts in split if len(parts) == 3]


def _up(hierarchy: Path, path: str) -> Iterator[Path]:
    """The group of a path and those above it, up to the root of the hierarchy."""
    parts = PurePosixPath(path).parts[1:]
    if ".." in parts:  # the group lies outside of what this namespace shows
        parts = ()
    for number in range(len(parts), -1, -1):
        yield hierarchy.joinpath(*parts[:number])
