"""Control groups: which one is made where, on file systems that look like the kernel's."""

import os
import subprocess

import pytest

from cspbench.machine import cgroup
from cspbench.machine.cgroup import MemoryGroup

LIMIT = 1 << 30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A hierarchy in which the "kernel" puts the files of a controller into every new group."""
    root = tmp_path / "cgroup"
    monkeypatch.setattr(cgroup, "_ROOT", root)
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    delegated = {}
    really = cgroup.Path.mkdir

    def mkdir(path, *arguments, **more):
        really(path, *arguments, **more)
        for name in delegated.get(path.parent, ()):
            (path / name).touch()

    def make(own, version, *groups):
        (tmp_path / "own").write_text(own)
        (root / "memory").mkdir(parents=True)
        if version == 2:
            (root / "cgroup.controllers").touch()
        for group in groups:
            (root / group).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(cgroup.Path, "mkdir", mkdir)
        return root, delegated

    return make


FILES = {1: ("memory.limit_in_bytes", "cgroup.procs"),
         2: ("memory.max", "cgroup.procs", "memory.swap.max")}  # fmt: skip


@pytest.mark.parametrize(
    ("own", "version", "parent"),
    [
        pytest.param("0::/app.slice/a.scope\n", 2, "app.slice", id="beside us: systemd's user"),
        pytest.param("0::/app.slice/a.scope\n", 2, "app.slice/a.scope", id="below us"),
        pytest.param("0::/\n", 2, "", id="root of version 2"),
        pytest.param("4:memory:/job\n0::/\n", 1, "memory/job", id="version 1"),
    ],
)
def test_a_group_is_made_where_children_have_the_controller(system, own, version, parent):
    root, delegated = system(own, version, "app.slice/a.scope", "memory/job")
    delegated[root / parent] = FILES[version]
    group = MemoryGroup.confine(1234, LIMIT)
    (path,) = (root / parent).glob(f"cspbench-{os.getpid()}-*")
    assert (path / FILES[version][0]).read_text() == str(LIMIT)
    assert (path / "cgroup.procs").read_text() == "1234"
    events = {1: "memory.oom_control", 2: "memory.events"}[version]
    assert group.oom_kills() == 0
    (path / events).write_text("under_oom 0\noom_kill 2\n")
    assert group.oom_kills() == 2


def test_where_no_controller_is_given_there_is_no_group_and_nothing_stays(system):
    root, _ = system("0::/app.slice/a.scope\n", 2, "app.slice/a.scope")
    assert MemoryGroup.confine(1234, LIMIT) is None
    assert list(root.rglob("cspbench-*")) == []


def test_without_control_groups_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "missing")
    assert MemoryGroup.confine(1234, LIMIT) is None


def test_groups_of_controllers_that_were_killed_are_swept(system):
    root, delegated = system("0::/\n", 2)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (root / f"cspbench-{ended.pid}-0").mkdir()
    (root / f"cspbench-{os.getpid()}-77").mkdir()  # of a controller that lives
    (root / "others").mkdir()
    delegated[root] = FILES[2]
    MemoryGroup.confine(1234, LIMIT)
    names = {path.name.rpartition("-")[0] or path.name for path in root.iterdir() if path.is_dir()}
    assert names == {f"cspbench-{os.getpid()}", "others", "memory"}
