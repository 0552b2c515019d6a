"""Limits of a container: processors and memory, on trees of files that look like the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cspbench.machine import facts
from cspbench.machine.doctor import CHECKS, cache, system_files
from cspbench.machine.quotas import cpu_quota, memory_left, memory_limit
from tests.conftest import missing_namespaces


def tree(folder, own, files):
    """A root of control groups with these files, and what /proc/self/cgroup says."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (folder / "cgroup").mkdir(exist_ok=True)
    if own is not None:
        (folder / "own").write_text(own)
    return folder / "cgroup", folder / "own"


V1 = "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n"


def v1(folder, quota, period=100000):
    return {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        pytest.param("0::/\n", {"cpu.max": "150000 100000"}, 1.5, id="v2, in its own namespace"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, None, id="v2, without a limit"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5,
                     id="v2, the group above is narrower"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "20000 100000", "a/cpu.max": "50000 100000"}, 0.2,
                     id="v2, the group is narrower"),
        pytest.param("0::/docker/ab\n", {"cpu.max": "300000 100000"}, 3,
                     id="v2, the path is the host's"),
        pytest.param("0::/../../other\n", {"cpu.max": "100000 50000"}, 2,
                     id="v2, the path leads out of the namespace"),
        pytest.param(V1, v1("cpu,cpuacct/docker/ab", 250000), 2.5, id="v1"),
        pytest.param(V1, v1("cpu,cpuacct/docker/ab", -1), None, id="v1, without a limit"),
        pytest.param(V1, v1("cpu,cpuacct/docker/ab", -1) | v1("cpu,cpuacct/docker", 50000), 0.5,
                     id="v1, the group above has one"),
        pytest.param(V1, v1("cpu", 40000), 0.4, id="v1, the path is the host's, the name short"),
        pytest.param("4:cpuacct,cpu:/x\n", v1("cpu,cpuacct/x", 10000), 0.1,
                     id="v1, the names in the other order"),
        pytest.param("4:cpu,cpuacct:/x\n0::/y\n",
                     v1("cpu,cpuacct/x", 90000) | {"unified/y/cpu.max": "30000 100000"}, 0.3,
                     id="hybrid"),
        pytest.param(None, {"cpu.max": "150000 100000"}, 1.5, id="no /proc"),
        pytest.param("0::/\n", {}, None, id="no /sys"),
        pytest.param("0::/\n", {"cpu.max": "what is this"}, None, id="a file that says nothing"),
        pytest.param("nonsense\n", {"cpu.max": "10000 100000"}, 0.1, id="an unknown form"),
    ],
)  # fmt: skip
def test_the_smallest_quota_counts(tmp_path, own, files, quota):
    assert cpu_quota(*tree(tmp_path, own, files)) == quota


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a\n", {"a/memory.max": "max", "memory.max": 2**30}, 2**30),
        (V1, {"memory/docker/ab/memory.limit_in_bytes": 2**31}, 2**31),
        (V1, {"memory/docker/ab/memory.limit_in_bytes": 9223372036854771712}, None),
        (None, {}, None),
    ],
)
def test_limits_of_memory(tmp_path, own, files, limit):
    assert memory_limit(*tree(tmp_path, own, files)) == limit


def memory(folder, limit, used, idle, names=("max", "current", "inactive_file")):
    most, taken, inactive = names
    return {f"{folder}memory.{most}": limit, f"{folder}memory.{taken}": used,
            f"{folder}memory.stat": f"anon 5\n{inactive} {idle}"}  # fmt: skip


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        # Of 1,000 bytes 700 are taken, 200 of these by files that nobody uses: 500 are left.
        ("0::/a\n", memory("a/", 1000, 700, 200), 500),
        ("0::/a\n", memory("a/", "max", 700, 200) | memory("", 800, 790, 0), 10),
        ("0::/a\n", memory("a/", 1000, 1100, 0), 0),
        (V1, memory("memory/docker/ab/", 1000, 700, 200,
                    ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")), 500),
        ("0::/a\n", {"a/memory.max": 1000}, None),
        (None, {}, None),
    ],
)  # fmt: skip
def test_memory_that_is_left(tmp_path, own, files, left):
    assert memory_left(*tree(tmp_path, own, files)) == left


@pytest.mark.parametrize(("quota", "threads"), [(None, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_no_more_threads_than_the_quota_allows(monkeypatch, quota, threads):
    monkeypatch.setattr(facts, "usable_cores", lambda: 8)
    monkeypatch.setattr(facts, "cgroup_cpu_quota", lambda: quota)
    assert facts.default_threads() == threads


def test_the_doctor_says_what_a_container_leaves_out(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys").mkdir()
    [missing] = system_files(tmp_path)
    assert (missing.check, missing.value, missing.verdict) == ("/sys", "missing", "warn")
    assert "clocks" in missing.remedy
    assert system_files in CHECKS


def test_the_doctor_says_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "here"))
    [place] = cache()
    assert (place.value, place.verdict) == (str(tmp_path / "here"), "good")


@pytest.mark.skipif(missing_namespaces() is not None, reason=str(missing_namespaces()))
@pytest.mark.parametrize("hidden", ["/sys", "/proc /sys"])
def test_commands_work_without_proc_and_sys(tmp_path, hidden):
    """A run measures with what is there; the doctor names what is missing."""
    script = " && ".join(f"mount -t tmpfs none {path}" for path in hidden.split())
    command = os.path.join(os.path.dirname(sys.executable), "cspbench")
    environment = {**os.environ, "CSPBENCH_CACHE": str(tmp_path / "cache")}
    run = (
        "run peleenet@64 --backend onnxruntime --threads 1 --rounds 1 --set measure.warmup=0.1 "
        "--set measure.max_seconds=0.1"
    )
    for arguments, code in (("doctor", 0), (run, 0)):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{script} && {command} {arguments}"],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        if arguments == "doctor":
            for path in hidden.split():
                assert path in done.stdout
