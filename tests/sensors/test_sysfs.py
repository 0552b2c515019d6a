# ruff: noqa: N802 - the names are pynvml's
"""The sensors that read files, from trees written out here as the kernel's documentation has them.

And NVML through a stand-in that has the names of pynvml.
"""

import sys
import types

import pytest

from cspbench.sensors.cpufreq import CpuFreq
from cspbench.sensors.nvml import Nvml, NvmlReader, is_throttled
from cspbench.sensors.rapl import Rapl
from cspbench.sensors.tegra import Tegra, power_name
from cspbench.sensors.thermal import Thermal


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


def test_clocks_and_throttle_counts(tmp_path):
    write(tmp_path, {
        "cpu0/cpufreq/scaling_cur_freq": 1200000, "cpu1/cpufreq/scaling_cur_freq": 2400000,
        "cpu0/thermal_throttle/core_throttle_count": 3,
        "cpu1/thermal_throttle/core_throttle_count": 4,
        "cpufreq/boost": 1, "cpuidle/current_driver": "none",
    })  # fmt: skip
    sensor = CpuFreq(tmp_path)
    assert sensor.available() is None
    reading = sensor.open().read()
    # kHz: the mean of 1.2 and 2.4 GHz.
    assert reading.gauges == {"cpu_frequency_mhz": 1800.0, "cpu_frequency_max_mhz": 2400.0}
    assert reading.counters == {"cpu_throttle_events": 7}


def test_temperatures_by_zone(tmp_path):
    write(tmp_path, {
        "thermal_zone0/type": "cpu-thermal", "thermal_zone0/temp": 45500,
        "thermal_zone1/type": "x86_pkg_temp", "thermal_zone1/temp": 51000,
        "thermal_zone2/type": "broken", "thermal_zone2/temp": "no data",
        "cooling_device0/type": "Fan",
    })  # fmt: skip
    sensor = Thermal(tmp_path)
    assert sensor.available() is None
    assert sensor.read().gauges == {
        "temperature_cpu_c": 45.5, "temperature_x86_pkg_temp_c": 51.0, "temperature_c": 51.0,
    }  # fmt: skip


def rapl(tmp_path, first, second):
    write(tmp_path, {
        "intel-rapl:0/name": "package-0", "intel-rapl:0/energy_uj": first,
        "intel-rapl:0/max_energy_range_uj": 1_000_000,
        "intel-rapl:1/name": "package-1", "intel-rapl:1/energy_uj": second,
        "intel-rapl:1/max_energy_range_uj": 1_000_000,
        "intel-rapl:0:0/name": "core", "intel-rapl:0:0/energy_uj": 12345,
        "intel-rapl:2/name": "psys", "intel-rapl:2/energy_uj": 99,
    })  # fmt: skip


def test_rapl_sums_packages_and_survives_a_wrap(tmp_path):
    rapl(tmp_path, 100_000, 900_000)
    reader = Rapl(tmp_path).open()
    assert reader.read().counters == {"cpu_energy_j": 0.0}
    rapl(tmp_path, 300_000, 950_000)
    assert reader.read().counters == {"cpu_energy_j": pytest.approx(0.25)}  # 0.2 + 0.05 J
    rapl(tmp_path, 300_000, 50_000)  # the second wrapped at 1 J: 0.05 J up to it, 0.05 after
    assert reader.read().counters == {"cpu_energy_j": pytest.approx(0.35)}


def test_rapl_that_may_not_be_read_says_so(tmp_path):
    assert Rapl(tmp_path).available() == "this system has no RAPL counters"
    rapl(tmp_path, 1, 1)
    assert Rapl(tmp_path).available() is None
    for number in (0, 1):
        (tmp_path / f"intel-rapl:{number}/energy_uj").write_text("")
    assert Rapl(tmp_path).available() == "the RAPL counters are readable by root only"
    with pytest.raises(OSError, match="cannot be read any more"):
        Rapl(tmp_path).open().read()


def test_a_jetson_board_from_sysfs(tmp_path):
    chip = "bus/i2c/devices/1-0040"
    write(tmp_path, {
        f"{chip}/name": "ina3221", f"{chip}/hwmon/hwmon3/name": "ina3221",
        f"{chip}/hwmon/hwmon3/in1_label": "VDD_IN", f"{chip}/hwmon/hwmon3/in1_input": 5000,
        f"{chip}/hwmon/hwmon3/curr1_input": 1500,
        f"{chip}/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV", f"{chip}/hwmon/hwmon3/in2_input": 4800,
        f"{chip}/hwmon/hwmon3/curr2_input": 500,
        f"{chip}/hwmon/hwmon3/in3_label": "VDD_SOC", f"{chip}/hwmon/hwmon3/in3_input": 5000,
        "bus/i2c/devices/2-0050/hwmon/hwmon4/name": "tmp451",
        "class/devfreq/17000000.gpu/device/load": 730,
        "class/devfreq/17000000.gpu/device/of_node/name": "gpu",
        "class/devfreq/17000000.gpu/cur_freq": 624750000,
        "class/devfreq/15340000.vic/cur_freq": 115200000,
    })  # fmt: skip
    sensor = Tegra(tmp_path)
    assert sensor.available() is None
    # 5 V * 1.5 A = 7.5 W; 4.8 V * 0.5 A = 2.4 W; VDD_SOC shows no current and is left out.
    assert sensor.read().gauges == {
        "power_vdd_in_w": 7.5, "power_vdd_cpu_gpu_cv_w": pytest.approx(2.4), "board_power_w": 7.5,
        "gpu_utilisation_percent": 73.0, "gpu_clock_mhz": 624.75,
    }  # fmt: skip


def test_names_of_rails():
    assert power_name("VDD_CPU_GPU_CV") == "power_vdd_cpu_gpu_cv_w"
    assert power_name("POM 5V IN") == "power_pom_5v_in_w"


@pytest.mark.parametrize("sensor", [CpuFreq, Thermal, Rapl, Tegra])
def test_a_machine_without_them_gives_a_reason(tmp_path, sensor):
    assert sensor(tmp_path).available()


class FakeNvml(types.ModuleType):
    """Names of pynvml; the temperature is not supported by this device."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, reasons=0):
        super().__init__("pynvml")
        self.reasons, self.devices, self.open = reasons, [], 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        self.devices.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.devices.append(uuid)
        return uuid

    def nvmlDeviceGetUtilizationRates(self, device):
        return types.SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetMemoryInfo(self, device):
        return types.SimpleNamespace(used=2**30)

    def nvmlDeviceGetClockInfo(self, device, clock):
        return {1: 1410, 2: 1215}[clock]

    def nvmlDeviceGetTemperature(self, device, kind):
        raise self.NVMLError("not supported")

    def nvmlDeviceGetPowerUsage(self, device):
        return 215_500  # mW

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        return 12_345_678  # mJ

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):
        return self.reasons


def test_nvml_leaves_out_what_a_device_does_not_support(monkeypatch):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert Nvml().available() is None
    reader = Nvml().open()
    reading = reader.read()
    reader.close()
    assert reading.gauges == {
        "gpu_utilisation_percent": 87, "gpu_memory_used_bytes": 2**30, "gpu_clock_mhz": 1410,
        "gpu_memory_clock_mhz": 1215, "gpu_power_w": 215.5, "gpu_throttled": 0,
    }  # fmt: skip
    assert reading.counters == {"gpu_energy_j": 12345.678}
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "device"), [(None, 0), ("1", 1), ("GPU-abc,GPU-def", "GPU-abc"), ("", 0)]
)
def test_nvml_reads_the_device_that_cuda_takes_first(monkeypatch, visible, device):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    Nvml().open().close()
    assert nvml.devices == [device]


# Bits from nvml.h: 1 idle, 2 application clocks, 4 power cap, 8 hardware slowdown, 0x20 and 0x40
# thermal, 0x80 power brake.
@pytest.mark.parametrize(
    ("reasons", "expected"),
    [(0, False), (1, False), (2, False), (4, True), (0x21, True), (0x80, True), (0x103, False)],
)
def test_which_reasons_are_throttling(reasons, expected):
    assert is_throttled(reasons) is expected
    assert NvmlReader(FakeNvml(reasons), 0).read().gauges["gpu_throttled"] == expected


@pytest.mark.gpu
def test_nvml_against_the_real_driver():
    sensor = Nvml()
    assert sensor.available() is None
    reader = sensor.open()
    reading = reader.read()
    reader.close()
    assert 0 <= reading.gauges["gpu_utilisation_percent"] <= 100
    assert reading.gauges["gpu_memory_used_bytes"] > 0
    assert 0 < reading.gauges["gpu_power_w"] < 2000
