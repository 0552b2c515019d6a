"""Ceilings: cache sizes as sysfs writes them, and a real measurement of this machine."""

import json
from contextlib import nullcontext
from types import MappingProxyType

import pytest
from click.testing import CliRunner

from cspbench.cli.ceilings import command
from cspbench.errors import Unsupported
from cspbench.machine.devices.spec import DEVICES, Device
from cspbench.machine.sysfs import cache_sizes
from cspbench.measure import ceilings


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


class Clockwork:
    """A device of which every operation takes a known time: 1 ns a byte or multiply-add, 1 us
    whatever it does.
    """

    name = "clockwork"
    precisions = ("fp32", "int8")
    matrix_side = 100
    caches = MappingProxyType({"L1d": 1, "L2": 2**20})
    now = 0.0

    def taking(self, nanoseconds):
        def work():
            self.now += 1e-6 + nanoseconds * 1e-9

        return work

    def matrix_product(self, precision):
        return self.taking(100**3 / (4 if precision == "int8" else 1))

    def copy(self, elements):
        return self.taking(8 * elements)

    def read(self, elements):
        return self.taking(4 * elements)

    def triad(self, elements):
        return self.taking(12 * elements)

    def one_operator(self):
        return self.taking(0)

    def synchronise(self):
        self.now += 1e-9


def test_ceilings_are_rates_of_the_operations_of_whatever_device(monkeypatch):
    device = Clockwork()
    spec = Device("clockwork", "by hand", probe=lambda threads: nullcontext(device))
    monkeypatch.setitem(DEVICES._entries, "clockwork", spec)
    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: device.now)
    found = ceilings.measure("clockwork", 3)
    # 2 x 100^3 FLOP in 10^6 ns and 1 us; int8 in a quarter.
    assert found["gflops"] == pytest.approx({"fp32": 2.0, "int8": 8.0}, rel=0.01)
    assert found["bandwidth_gbs"] == pytest.approx({"copy": 1, "read": 1, "triad": 1}, rel=0.01)
    # 1 byte is no cache that a copy can be measured in; half of 1 MiB is copied in 0.5 ms.
    assert found["cache_bandwidth_gbs"] == pytest.approx({"L2": 1.0}, rel=0.01)
    assert found["overhead_us"] == pytest.approx(1.0, rel=0.01)
    assert (found["name"], found["threads"]) == ("clockwork", 3)


def test_a_device_without_a_probe_has_no_ceilings(monkeypatch):
    monkeypatch.setitem(DEVICES._entries, "dumb", Device("dumb", "tells nothing"))
    with pytest.raises(Unsupported, match="device 'dumb' has no probe"):
        ceilings.measure("dumb", 1)


def test_another_device_is_refused_with_those_that_there_are():
    found = CliRunner().invoke(command, ["--device", "npu"])
    assert found.exit_code == 2
    assert "'npu' is not one of 'cpu', 'cuda'." in found.output
    assert "[cpu|cuda]" in CliRunner().invoke(command, ["--help"]).output


def test_this_machine_is_measured_once_and_then_known(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    first = CliRunner().invoke(command, ["--format", "json"], catch_exceptions=False)
    found = json.loads(first.stdout)
    assert found["threads"] == 1
    assert found["gflops"]["fp32"] > 0.1
    assert found["bandwidth_gbs"].keys() == {"copy", "read", "triad"}
    assert 0 < found["overhead_us"] < 10_000
    again = CliRunner().invoke(command, ["--format", "json"], catch_exceptions=False)
    assert json.loads(again.stdout) == found
