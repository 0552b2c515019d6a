# ruff: noqa: N802 - the names are pynvml's
"""The sensors that read files, from trees written out here as the kernel's documentation has them.

And NVML through a stand-in that has the names of pynvml.
"""

import sys
import time
import types

import pytest

from cspbench.machine.devices.spec import DEVICES
from cspbench.machine.sensors.cpufreq import CpuFreq
from cspbench.machine.sensors.jtop import gauges_of
from cspbench.machine.sensors.monitor import Monitor
from cspbench.machine.sensors.nvml import (
    Nvml,
    NvmlReader,
    first_device,
    is_throttled,
    used_by,
    used_bytes,
)
from cspbench.machine.sensors.rapl import Rapl
from cspbench.machine.sensors.summary import power, series
from cspbench.machine.sensors.tegra import Tegra, power_name
from cspbench.machine.sensors.thermal import Thermal, hottest_c


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
        "thermal_zone3/type": "cv0-thermal", "thermal_zone3/temp": -256000,  # a Tegra zone, off
        "cooling_device0/type": "Fan",
    })  # fmt: skip
    sensor = Thermal(tmp_path)
    assert sensor.available() is None
    assert sensor.read().gauges == {
        "temperature_cpu_c": 45.5, "temperature_x86_pkg_temp_c": 51.0, "temperature_c": 51.0,
    }  # fmt: skip
    assert hottest_c(tmp_path) == 51.0


def test_the_hotter_of_two_zones_of_one_type_counts(tmp_path):
    assert hottest_c(tmp_path) is None
    for number, degrees in enumerate([40000, 60000, 50000]):
        write(tmp_path, {f"thermal_zone{number}/type": "acpitz",
                         f"thermal_zone{number}/temp": degrees})  # fmt: skip
    assert Thermal(tmp_path).read().gauges == {"temperature_acpitz_c": 60, "temperature_c": 60}
    assert hottest_c(tmp_path) == 60


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


def ina3221(chip, rails):
    """Files of a chip with rails by (name, mV, mA)."""
    files = {f"{chip}/name": "ina3221"}
    for number, (name, volts, amperes) in enumerate(rails, 1):
        files |= {f"{chip}/in{number}_label": name, f"{chip}/in{number}_input": volts,
                  f"{chip}/curr{number}_input": amperes}  # fmt: skip
    return files


def test_a_board_without_a_rail_for_all_has_a_sum_and_no_board_power(tmp_path):
    devices = "bus/i2c/devices"
    write(tmp_path, {
        **ina3221(f"{devices}/1-0040/hwmon/hwmon3",
                  [("VDD_GPU_SOC", 12000, 500), ("VDD_CPU_CV", 12000, 100), ("NC", 12000, 900)]),
        **ina3221(f"{devices}/1-0041/hwmon/hwmon4", [("VIN_SYS_5V0", 5000, 600)]),
        "class/devfreq/17000000.ga10b/device/of_node/name": "ga10b",  # Orin before JetPack 6
        "class/devfreq/17000000.ga10b/cur_freq": 306000000,
    })  # fmt: skip
    gauges = Tegra(tmp_path).read().gauges
    # 12 V * 0.5 A = 6 W, 12 V * 0.1 A = 1.2 W, 5 V * 0.6 A = 3 W; NC is not connected.
    assert gauges == {
        "power_vdd_gpu_soc_w": 6.0, "power_vdd_cpu_cv_w": pytest.approx(1.2),
        "power_vin_sys_5v0_w": 3.0, "rails_power_w": pytest.approx(10.2), "gpu_clock_mhz": 306.0,
    }  # fmt: skip


def test_the_carrier_board_of_a_thor_has_an_ina238(tmp_path):
    write(tmp_path, {
        "bus/i2c/devices/2-0044/hwmon/hwmon5/name": "ina238",
        "bus/i2c/devices/2-0044/hwmon/hwmon5/power1_input": 48_250_000,  # µW
        **ina3221("bus/i2c/devices/2-0040/hwmon/hwmon4", [("VDD_GPU", 12000, 1000)]),
    })  # fmt: skip
    gauges = Tegra(tmp_path).read().gauges
    assert gauges == {
        "power_vin_w": 48.25, "power_vdd_gpu_w": 12.0, "board_power_w": 48.25,
    }  # fmt: skip


def client(**found):
    """What a jtop client shows, by the attributes that are read."""
    bare = {"power": {}, "temperature": {}, "gpu": {}, "memory": {}, "fan": {}, "nvpmodel": None,
            "jetson_clocks": None}  # fmt: skip
    return types.SimpleNamespace(**{**bare, **found})


def rail(milliwatts):
    return {"volt": 5000, "curr": milliwatts // 5, "power": milliwatts, "avg": 1, "online": True}


def test_jtop_on_a_board_with_a_rail_for_all():
    power = {"rail": {"VDD_CPU_GPU_CV": rail(2500)}, "tot": {**rail(7500), "name": "VDD_IN"}}
    assert gauges_of(client(power=power)) == {
        "power_vdd_cpu_gpu_cv_w": 2.5, "power_vdd_in_w": 7.5, "board_power_w": 7.5,
    }  # fmt: skip


def test_jtop_on_a_board_without_one_takes_no_charger_for_a_rail():
    # Version 4.3 on an AGX Orin: no name in tot, which is the sum of all, the charger's too.
    power = {
        "rail": {"VDD_GPU_SOC": rail(6000), "VDD_CPU_CV": rail(1200),
                 "ucsi-source-psy-2-00081": rail(15000)},
        "tot": {"power": 22200, "avg": 22200},
    }  # fmt: skip
    assert gauges_of(client(power=power)) == {
        "power_vdd_gpu_soc_w": 6.0, "power_vdd_cpu_cv_w": 1.2, "rails_power_w": 7.2,
    }  # fmt: skip


def test_jtop_leaves_out_what_a_board_does_not_tell():
    assert gauges_of(client()) == {}
    gpu = {"gpu": {"type": "integrated", "status": {"railgate": False}, "freq": {"cur": 306000}}}
    heat = {"cpu": {"temp": 40.5, "online": True}, "cv0": {"temp": -256, "online": False}}
    assert gauges_of(client(gpu=gpu, temperature=heat)) == {
        "gpu_clock_mhz": 306.0, "temperature_cpu_c": 40.5, "temperature_c": 40.5,
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

    def nvmlDeviceGetUUID(self, device):
        return ("GPU-0f", "GPU-abc-123")[device]

    def nvmlDeviceGetUtilizationRates(self, device):
        return types.SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetMemoryInfo(self, device):
        return types.SimpleNamespace(used=2**30, free=3 * 2**30)

    def nvmlDeviceGetClockInfo(self, device, clock):
        return {1: 1410, 2: 1215}[clock]

    def nvmlDeviceGetTemperature(self, device, kind):
        raise self.NVMLError("not supported")

    def nvmlDeviceGetPowerUsage(self, device):
        return 215_500  # mW

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        return 12_345_678  # mJ

    def nvmlDeviceGetFieldValues(self, device, ids):
        """Of the power limit 2 s, of heat by hardware 0.5 s; sync boost is not supported."""
        known = {74: 2_000_000_000, 270: 500_000_000}
        return [
            types.SimpleNamespace(
                fieldId=number, nvmlReturn=0 if number in known else 3,
                value=types.SimpleNamespace(ullVal=known.get(number, 99)),
            )
            for number in ids
        ]  # fmt: skip

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, device):
        return [types.SimpleNamespace(pid=41, usedGpuMemory=2**20),
                types.SimpleNamespace(pid=42, usedGpuMemory=600 * 2**20),
                types.SimpleNamespace(pid=43, usedGpuMemory=None)]  # fmt: skip


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
        "gpu_power_capped": 0,
    }  # fmt: skip
    assert reading.counters == {
        "gpu_energy_j": 12345.678, "gpu_power_cap_s": 2.0, "gpu_thermal_hardware_s": 0.5,
    }  # fmt: skip
    assert reader.counters() == {"gpu_energy_j": 12345.678}
    assert nvml.open == 0


def test_memory_that_is_taken_is_known_where_processes_are_not_listed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert used_bytes() == 2**30
    assert used_by(99) is None


def test_the_free_memory_of_a_card_is_what_nvml_tells(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert DEVICES.get("cuda").free_bytes() == 3 * 2**30
    assert DEVICES.get("cuda").held_by(42) == 600 * 2**20
    monkeypatch.setitem(sys.modules, "pynvml", None)  # it is not installed
    assert DEVICES.get("cuda").free_bytes() is None


@pytest.mark.parametrize(
    ("visible", "device"),
    [(None, 0), ("1", 1), ("GPU-abc,GPU-def", 1), ("", 0), ("MIG-abc", "MIG-abc")],
)
def test_nvml_reads_the_device_that_cuda_takes_first(monkeypatch, visible, device):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    Nvml().open().close()
    assert nvml.devices[-1] == device  # CUDA takes the beginning of a UUID as well


# Bits from nvml.h: 1 idle, 2 application clocks, 4 power cap, 8 hardware slowdown, 0x20 and 0x40
# thermal, 0x80 power brake.
@pytest.mark.parametrize(
    ("reasons", "expected"),
    [(0, False), (1, False), (2, False), (4, False), (8, True), (0x21, True), (0x40, True),
     (0x10, True), (0x80, True), (0x103, False), (0x204, False)],
)  # fmt: skip
def test_which_reasons_are_throttling(reasons, expected):
    assert is_throttled(reasons) is expected
    assert NvmlReader(FakeNvml(reasons), 0).read().gauges["gpu_throttled"] == expected


@pytest.mark.parametrize(("reasons", "capped"), [(0, 0), (4, 1), (0x201, 1), (0x8, 0)])
def test_the_power_limit_is_told_and_is_no_throttling(reasons, capped):
    nvml = FakeNvml(reasons)
    # The name that newer drivers have for the same question.
    nvml.nvmlDeviceGetCurrentClocksEventReasons = lambda device: reasons
    assert NvmlReader(nvml, 0).read().gauges["gpu_power_capped"] == capped


def test_memory_of_a_process_on_thefirst_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert used_by(42) == 600 * 2**20
    assert used_by(43) is None  # the driver does not tell
    assert used_by(7) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert used_by(42) is None


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
    assert reading.gauges["gpu_clock_mhz"] > 0
    assert reading.gauges["gpu_throttled"] in (0, 1)
    assert reading.gauges["gpu_power_capped"] in (0, 1)


@pytest.mark.gpu
def test_the_energy_counter_agrees_with_the_power_under_load():
    torch = pytest.importorskip("torch")
    a = torch.rand(4096, 4096, device="cuda")
    with Monitor([Nvml()]) as monitor:
        monitor.start()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            a @ a
            torch.cuda.synchronize()
        monitor.stop()
    (trace,) = monitor.traces
    assert not trace.problem
    assert len(trace.readings) >= 20  # 10 a second for 3 s
    assert trace.cost_s / trace.window_s < 0.05
    counted = power([trace], "cuda")
    if not counted.method.startswith("difference of gpu_energy_j"):
        pytest.skip("this device has no energy counter")
    # The driver averages power over up to a second, so the two need not agree closely.
    last = [watts for _, watts in series(trace.readings, "gpu_power_w")][-10:]
    assert counted.watts == pytest.approx(sum(last) / len(last), rel=0.3)


@pytest.mark.gpu
def test_the_sensor_and_torch_mean_the_samefirst_device():
    torch = pytest.importorskip("torch")
    import pynvml

    pynvml.nvmlInit()
    uuid = pynvml.nvmlDeviceGetUUID(first_device(pynvml))
    pynvml.nvmlShutdown()
    assert str(uuid).removeprefix("GPU-") == str(torch.cuda.get_device_properties(0).uuid)
