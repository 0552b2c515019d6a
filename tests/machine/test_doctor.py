"""``cspbench doctor`` on a Jetson board made of files."""

import pytest

from cspbench.machine.doctor import CHECKS, jetson
from tests.machine.sensors.jetson_board import GPU_MAX_HZ, Board, write


@pytest.fixture
def board(tmp_path, monkeypatch):
    """The root of a board at rest, whose nvpmodel tells its mode."""
    write(tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 3.0")
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Super\0")
    Board(tmp_path / "sys").build()
    tool = tmp_path / "bin/nvpmodel"
    write(tool, "#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_a_board_tells_its_power_mode_and_that_its_clocks_are_free(board):
    name, mode, clocks = jetson(board)
    assert name.value == "NVIDIA Jetson Orin Nano Super"
    assert (mode.check, mode.value) == ("Jetson power mode", "MAXN_SUPER")
    assert (clocks.check, clocks.value, clocks.verdict) == ("Jetson clocks", "not locked", "warn")
    assert "sudo jetson_clocks" in clocks.remedy


def test_locked_clocks_are_good(board):
    write(board / "sys/class/devfreq/17000000.gpu/min_freq", GPU_MAX_HZ)  # as jetson_clocks does
    *_, clocks = jetson(board)
    assert (clocks.value, clocks.verdict, clocks.remedy) == ("locked", "good", "")


def test_a_board_in_a_container_says_what_it_cannot_see(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write(tmp_path / "etc/nv_tegra_release", "# R36")
    values = [(finding.value, finding.verdict) for finding in jetson(tmp_path)]
    assert values == [("unknown to nvpmodel -q", "info"), ("not visible here", "info")]


def test_other_machines_hear_nothing_of_it(tmp_path):
    assert jetson in CHECKS
    assert list(jetson(tmp_path)) == []
