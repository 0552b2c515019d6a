"""Ceilings: cache sizes as sysfs writes them, and a real measurement of this machine."""

import json

from click.testing import CliRunner

from cspbench.cli.ceilings import command
from cspbench.machine.sysfs import cache_sizes


def test_data_caches_are_read_from_sysfs_and_instruction_caches_are_not(tmp_path):
    for index, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2048K"),
         ("Unified", 3, "260M")]
    ):  # fmt: skip
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    # 48 KiB = 49,152; 2,048 KiB = 2,097,152; 260 MiB = 272,629,760
    assert dict(cache_sizes(tmp_path)) == {"L1d": 49152, "L2": 2097152, "L3": 272629760}


def test_this_machine_is_measured_once_and_then_known(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(tmp_path))
    first = CliRunner().invoke(command, ["--format", "json"], catch_exceptions=False)
    found = json.loads(first.stdout)
    assert found["threads"] == 1
    assert found["gflops"]["fp32"] > 0.1
    assert found["bandwidth_gbs"].keys() == {"copy", "read", "triad"}
    assert 0 < found["overhead_us"] < 10_000
    again = CliRunner().invoke(command, ["--format", "json"], catch_exceptions=False)
    assert json.loads(again.stdout) == found
