"""The real jtop service on a Jetson board made of files, in a mount namespace of its own.

The unmodified jetson-stats service (its testing mode) reads our INA3221, devfreq and thermal files
and our stand-ins for nvpmodel and jetson_clocks; its real client feeds our sensor. What is checked
here happened in ``jetson_scenario.py``. Nothing was run on a board.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.namespaces, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
TRACES = ("/run/jtop.sock", "/fake_sys", "/usr/bin/nvpmodel", "/etc/nvpmodel.state",
          f"{sys.base_prefix}/local/jtop", "/tmp/board.yaml", "/tmp/jtop.log")  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the scenario found."""
    if importlib.util.find_spec("jtop") is None:
        pytest.skip("jetson-stats is not installed (pip install jetson-stats)")
    if any(Path(path).exists() for path in TRACES):
        pytest.skip("this machine has a jtop service or is a board: it is left alone")
    scratch = tmp_path_factory.mktemp("board")
    script = (
        f"cd '{ROOT}' && '{sys.executable}' -m tests.machine.sensors.jetson_scenario"
        " /tmp/result.json;"
        "echo; cat /tmp/result.json"
    )
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "CSPBENCH_CACHE": "/tmp/cspbench-board-cache",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh",
         str(Path(__file__).with_name("jetson_namespace.sh")), str(scratch), str(ROOT), sys.prefix,
         sys.base_prefix, "--", "/bin/sh", "-c", script],
        capture_output=True, text=True, timeout=400, check=False, env=environment,
    )  # fmt: skip
    if "mount:" in done.stderr and not done.stdout.strip():
        pytest.skip(f"no overlay in a mount namespace: {done.stderr.strip()}")
    last = done.stdout.strip().rsplit("\n", 1)[-1]
    assert last.startswith("{"), done.stderr
    result = json.loads(last)
    assert {"levels", "modes", "energy", "run"} <= set(result), done.stderr + result.get("log", "")
    return result


def test_levels_come_through_jtop_and_are_those_of_sysfs(told):
    expected = (
        {"board_power_w": 7.5, "power_vdd_in_w": 7.5, "power_vdd_cpu_gpu_cv_w": 3.75,
         "power_vdd_soc_w": 0.5,
         "gpu_utilisation_percent": 10.0, "gpu_clock_mhz": 306.0, "temperature_cpu_c": 45.5,
         "temperature_gpu_c": 44.5, "temperature_c": 45.5},
        {"board_power_w": 14.75, "power_vdd_cpu_gpu_cv_w": 7.375, "power_vdd_soc_w": 0.5,
         "gpu_utilisation_percent": 99.0, "gpu_clock_mhz": 918.0, "temperature_cpu_c": 61.0,
         "temperature_gpu_c": 60.0, "temperature_c": 61.0},
    )  # fmt: skip
    for state, levels in zip(told["levels"], expected, strict=True):
        for name, value in levels.items():
            assert state["jtop"][name] == pytest.approx(value), name
            # jtop cuts the zone's name at the hyphen; sysfs gives it whole.
            sysfs = re.sub("^(temperature_.pu)_c$", r"\1_therm_c", name)
            assert state["sysfs"][sysfs] == pytest.approx(value), name


def test_mode_changes_come_through(told):
    modes = told["modes"]
    assert (modes["before"]["nvpmodel_id"], modes["before"]["jetson_clocks"]) == (0, 0)
    assert modes["mode"]["nvpmodel_id"] == 1
    assert modes["clocks"]["jetson_clocks"] == 1
    assert modes["query"] == ["NV", "Power", "Mode:", "7W", "1"]  # the tool itself agrees
    assert modes["environment"]["nvpmodel"] == "7W"
    assert modes["environment"]["jetson_clocks"] is True
    assert modes["environment"]["l4t"].startswith("# R36")


@pytest.mark.parametrize("sensor", ["jtop", "tegra"])
def test_the_energy_of_a_known_curve_is_right_within_one_percent(told, sensor):
    found = told["energy"][sensor]
    # Over the whole 10 s: 5 W * 10 s + 6 W * 6 s / 2 = 68 J; the window is a little shorter, so
    # the truth is the sum of what was written between its ends.
    assert 55 < found["truth"] < 69
    assert found["joules"] == pytest.approx(found["truth"], rel=0.01)
    assert found["readings"] >= 10
    assert found["cost_share"] < 0.05
    assert found["method"].startswith(f"integral of board_power_w ({sensor},")


def test_a_whole_run_has_mode_clocks_and_energy(told):
    run = told["run"]
    assert "problem" not in run, run
    case = run["case"]
    assert case["status"] == "ok"
    assert case["power_w"] == pytest.approx(6.0, rel=1e-3)
    assert case["idle_power_w"] == pytest.approx(6.0, rel=1e-3)
    assert case["energy_method"] == "integral of board_power_w (jtop, 2 Hz)"
    # 6 W for the time of an inference, in some seconds right after the timed bursts.
    launch = run["energy"]
    by_hand = 6.0 * run["sample_seconds"] / run["inferences"]
    assert 0.4 < launch["energy_per_inference_j"] / by_hand < 2.5
    assert launch["window_s"] >= launch["period_s"] == 0.5
    at_least = 6.0 * case["latency_ms"] / 1e3
    assert at_least * 0.8 < case["energy_per_inference_j"] < at_least * 3
    gauges = run["sensors"]["jtop"]["gauges"]
    assert gauges["gpu_clock_mhz"]["mean"] == 918.0
    assert (gauges["nvpmodel_id"]["mean"], gauges["jetson_clocks"]["mean"]) == (1, 1)
    assert run["environment"]["nvpmodel"] == "7W"
    assert run["environment"]["jetson_clocks"] is True


def test_nothing_is_left_behind(told):
    assert not [path for path in TRACES if Path(path).exists()]
    assert "jtop:" not in Path("/etc/group").read_text()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "board0" not in mounts
